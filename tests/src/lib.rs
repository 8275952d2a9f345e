//! End-to-end tests and benchmarks on the real binaries.

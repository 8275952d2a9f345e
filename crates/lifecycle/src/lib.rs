//! State machines without I/O: tasks, attempts, placement.

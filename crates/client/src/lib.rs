//! Talks to a controller: submit, follow, fetch.

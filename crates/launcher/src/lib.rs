//! Starts, adopts and stops the processes of jobs.

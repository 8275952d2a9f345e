//! Takes jobs, hands them to agents, keeps what they write.

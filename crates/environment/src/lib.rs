//! Environments by content: an existing Python, or a virtual environment built by uv.

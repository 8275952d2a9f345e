//! The public gRPC contract: generated code, client and server.

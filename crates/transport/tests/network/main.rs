//! Dialling and listening over real sockets, through proxies that the tests are themselves.

mod dead;
mod flood;
mod http1;
mod proxies;
mod support;
mod ways;

//! Every call of the contract × every kind of caller.

use std::fmt::Write as _;

use haul_proto::Rpc;
use tonic::Code;

use crate::calls::{Caller, Cast, Outcome};

fn word(outcome: Outcome) -> String {
    match outcome {
        Outcome::Done => "yes".to_owned(),
        Outcome::Ignored => "ignored".to_owned(),
        Outcome::Refused(Code::Unauthenticated) => "who?".to_owned(),
        Outcome::Refused(Code::PermissionDenied) => "no".to_owned(),
        Outcome::Refused(Code::AlreadyExists) => "exists".to_owned(),
        Outcome::Refused(Code::NotFound) => "absent".to_owned(),
        Outcome::Refused(other) => format!("{other:?}"),
    }
}

/// `who?` is UNAUTHENTICATED, `no` PERMISSION_DENIED; `absent` says that there is no such node, to whoever may ask for it;
/// `ignored` that the answer is friendly and nothing came of the call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_make_which_call() {
    let cast = Cast::new().await;
    let mut table = format!("{:<24}", "");
    for caller in Caller::ALL {
        write!(table, " {:<12}", format!("{caller:?}")).unwrap();
    }
    for rpc in Rpc::ALL {
        write!(table, "\n{:<24}", format!("{rpc:?}")).unwrap();
        for caller in Caller::ALL {
            write!(table, " {:<12}", word(cast.call(rpc, caller).await)).unwrap();
        }
    }
    let table: String = table
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect();
    println!("{table}");
    insta::assert_snapshot!(table);
    cast.end().await;
}

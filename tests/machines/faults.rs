//! What happens in between: jobs go on, and what they wrote arrives whole.

use haul_tests::{Side, Signal};
use sha2::{Digest as _, Sha256};

/// Writes numbered lines until it is told to end, and says at the end what the sum of all is.
const WRITER: &str = "\
import hashlib, pathlib, sys, time
sum, number = hashlib.sha256(), 0
while not pathlib.Path('/var/lib/end').exists():
    line = f'{number} ' + 'x' * 1000 + '\\n'
    sum.update(line.encode()); sys.stdout.write(line); sys.stdout.flush()
    number += 1; time.sleep(0.002)
pathlib.Path('outputs/sum').write_text(sum.hexdigest())
sys.exit(7)
";

#[test]
fn a_pulled_cable_and_a_restarted_controller_cost_no_job_and_no_byte() {
    let machines = [
        ("hub", Side::Outer),
        ("box", Side::Outer),
        ("laptop", Side::Outer),
    ];
    let Some(network) = crate::network(&machines) else {
        return;
    };
    let [hub, box_, laptop] = ["hub", "box", "laptop"].map(|name| network.machine(name));
    let (serving, admin) = crate::controller(hub);
    crate::log_in(laptop, &admin);
    let join = crate::token(laptop, "haul token create --role agent");
    let _agent = crate::join(box_, &join);
    std::fs::create_dir(laptop.path("project")).unwrap();
    std::fs::write(laptop.path("project/job.py"), WRITER).unwrap();
    let following = laptop
        .command([
            "sh",
            "-c",
            "cd project && exec haul run --no-env --target box -o job.py",
        ])
        .start();
    following.wait_for_stdout("\n100 ");

    network.set_connected("box", false);
    following.wait_for_stderr("box cannot be reached; what it runs goes on there");
    let shown = crate::shell(laptop, "haul node ls; haul show last").ok().out();
    assert!(
        shown.contains("unreachable") && shown.contains("running"),
        "{shown}"
    );
    network.set_connected("box", true);
    following.wait_for_stderr("box can be reached again");

    serving.signal(Signal::KILL);
    serving.end().expect_code(128 + 9);
    let serving = crate::serve(hub);
    following.wait_for_stderr("connected again");
    serving.signal(Signal::TERM);
    serving.end().ok();
    let _serving = crate::serve(hub);

    std::fs::write(box_.path(".machine/lib/end"), "").unwrap();
    let ended = following.end().expect_code(7);
    let sum = crate::shell(laptop, "haul outputs get last --to got >&2; cat got/sum")
        .ok()
        .out();
    let whole: String = Sha256::digest(&ended.stdout)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(whole, sum, "what was followed is what was written");
    let logged = crate::shell(laptop, "haul logs last | sha256sum").ok().out();
    assert!(logged.starts_with(&sum), "what is kept is what was written");
}

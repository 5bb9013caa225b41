//! The same with a real process and a real kill -9: this test binary runs itself as the victim.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

/// Names the folder of the victim; set only by the test that kills it.
const VICTIM: &str = "QUARRY_TEST_VICTIM";

#[test]
#[ignore = "the victim of the test below"]
fn victim() {
    let Some(folder) = std::env::var_os(VICTIM) else { return };
    let mut stage = Stage::over(&PathBuf::from(folder));
    stage.models.delay = Duration::from_millis(2);
    stage.run();
}

#[test]
fn killed_with_signal_nine_at_many_moments_the_outputs_are_those_of_a_quiet_run() {
    const NUM: usize = 30;
    let quiet = Stage::new(NUM);
    quiet.run();
    let (mut kills, mut rounds) = (0, 0_u64);
    while kills < 25 {
        let stage = Stage::new(NUM);
        let mut finished = false;
        while !finished {
            rounds += 1;
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "pipeline::run::tests::kill::victim", "--ignored"])
                .env(VICTIM, &stage.plan.folder)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // Spread over the run without a clock or a random source: 7 and 60 have no common divisor.
            std::thread::sleep(Duration::from_millis(8 + rounds * 7 % 60));
            finished = child.try_wait().unwrap().is_some_and(|status| status.success());
            let _ = child.kill();
            let _ = child.wait();
            kills += usize::from(!finished);
            assert!(rounds < 2000, "no progress after {kills} kills");
        }
        assert_same(&stage.outputs(), &quiet.outputs(), &format!("after {kills} kills"));
        assert_eq!(stage.run().counts.skipped, NUM);
    }
}

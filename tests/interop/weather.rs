//! Bad lines: packets get lost, and there is little room. Slow, and nobody's fault.

use crate::lane::Lane;
use crate::programs::Program;

#[test]
#[ignore = "needs root, nft, python3-libtorrent"]
fn c21_a_line_that_loses_packets_bans_nobody_and_the_file_arrives() {
    for (percent, length) in [(5, 2 << 20), (20, 256 << 10)] {
        let lane = Lane::new(length, 16);
        lane.there.limit(1);
        lane.here.lose(percent);
        let target = lane.folder("target");
        let mut run = lane.run(lane.get(&target));
        assert_eq!(run.exit_code(120), 0, "{percent} %: {}", run.said());
        assert!(!run.said().contains("wrong data"), "{}", run.said());
        lane.work.assert_arrived(&target, Program::Ropewalk);
    }
}

//! What the shell sees when the program ends. The numbers are a contract with scripts.

/// How a run ended, as a process exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// 0: everything that was asked for is done.
    Done,
    /// 1: the command line makes no sense.
    Usage,
    /// 2: it could not be done.
    Failed,
    /// 3: data does not match the torrent.
    Mismatch,
    /// 128 + the signal's number: stopped by a signal before everything was done.
    Signal(u8),
}

impl ExitStatus {
    /// The number the shell sees.
    pub fn code(self) -> u8 {
        match self {
            ExitStatus::Done => 0,
            ExitStatus::Usage => 1,
            ExitStatus::Failed => 2,
            ExitStatus::Mismatch => 3,
            ExitStatus::Signal(number) => 128u8.saturating_add(number),
        }
    }

    /// The status of a run that did two things: the greater number, so that a success never hides a
    /// failure and a stop from outside hides nothing.
    pub fn worst(self, other: ExitStatus) -> ExitStatus {
        if other.code() > self.code() {
            other
        } else {
            self
        }
    }
}

impl From<ExitStatus> for std::process::ExitCode {
    fn from(status: ExitStatus) -> std::process::ExitCode {
        std::process::ExitCode::from(status.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_contract() {
        let codes = [
            ExitStatus::Done,
            ExitStatus::Usage,
            ExitStatus::Failed,
            ExitStatus::Mismatch,
            ExitStatus::Signal(1),
            ExitStatus::Signal(2),
            ExitStatus::Signal(15),
        ]
        .map(ExitStatus::code);
        assert_eq!(codes, [0, 1, 2, 3, 129, 130, 143]);
    }

    #[test]
    fn of_several_torrents_the_worst_counts() {
        let worst = [
            ExitStatus::Done,
            ExitStatus::Mismatch,
            ExitStatus::Failed,
            ExitStatus::Done,
        ]
        .into_iter()
        .fold(ExitStatus::Done, ExitStatus::worst);
        assert_eq!(worst, ExitStatus::Mismatch);
    }
}

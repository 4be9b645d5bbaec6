//! What is odd about a torrent and does no harm, in sentences: as many as a person would read, the rest counted.

/// Names that are not written as they stand in the torrent, since they are not safe, or not the only ones of their
/// kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// What becomes of the first of them, as a sentence that is not escaped.
    pub first: String,
    /// How many there are, of files and of the torrent itself.
    pub count: usize,
}

/// Collects the sentences.
#[derive(Default)]
pub(super) struct Oddities {
    sentences: Vec<String>,
    left_out: usize,
    renamed: Option<Renamed>,
}

impl Oddities {
    pub(super) const MAX: usize = 30;

    pub(super) fn add(&mut self, sentence: impl FnOnce() -> String) {
        if self.sentences.len() < Oddities::MAX {
            self.sentences.push(sentence());
        } else {
            self.left_out += 1;
        }
    }

    /// `sentence` tells of a name that is written otherwise.
    pub(super) fn add_renamed(&mut self, sentence: impl Fn() -> String) {
        match &mut self.renamed {
            Some(renamed) => renamed.count += 1,
            None => {
                let first = sentence();
                self.renamed = Some(Renamed { first, count: 1 });
            }
        }
        self.add(sentence);
    }

    pub(super) fn renamed(&mut self) -> Option<Renamed> {
        self.renamed.take()
    }

    pub(super) fn finish(mut self) -> Vec<String> {
        if self.left_out > 0 {
            let more = format!("and {} more things like these", self.left_out);
            self.sentences.push(more);
        }
        self.sentences
    }
}

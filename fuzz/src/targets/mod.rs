//! What is given garbage: a target says what a good input looks like, and what came of one.

mod calendar;
mod frontend;
mod http;
mod query;
mod settings;
mod stored;

use mainstay_base::Prng;

/// A parser of bytes from outside.
pub trait Target {
    /// As on the command line, and the name of its corpus.
    fn name(&self) -> &'static str;

    /// Words of its language.
    fn words(&self) -> &'static [&'static str] {
        &[]
    }

    /// Good inputs to begin with.
    fn seeds(&self) -> Vec<Vec<u8>>;

    /// A new input, if there is another way than changing known ones.
    fn generate(&mut self, _: &mut Prng) -> Option<Vec<u8>> {
        None
    }

    /// Takes an input, and names what came of it: an input with a new answer is worth changing further.
    ///
    /// # Errors
    /// What is wrong with the answer. A panic is wrong, too.
    fn run(&mut self, input: &[u8]) -> Result<String, String>;

    /// Forgets what earlier inputs left behind.
    fn reset(&mut self) {}
}

/// All of them.
pub fn all() -> Vec<Box<dyn Target>> {
    vec![
        Box::new(query::Filters),
        Box::new(calendar::Crons),
        Box::new(calendar::Specs::default()),
        Box::new(stored::Entries),
        Box::new(stored::Records),
        Box::new(frontend::Requests::default()),
        Box::new(http::Http::default()),
        Box::new(settings::Settings),
    ]
}

/// An answer without what differs each time.
fn shape(answer: &str) -> String {
    let mut shape = String::new();
    for letter in answer.chars().take(60) {
        let letter = if letter.is_ascii_digit() { '0' } else { letter };
        if letter != '0' || !shape.ends_with('0') {
            shape.push(letter);
        }
    }
    shape
}

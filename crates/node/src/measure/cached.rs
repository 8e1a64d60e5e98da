//! Handles by label values: made once, kept, and bounded in number.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// The label value of what came after the bound was reached.
pub const OTHER: &str = "__other__";

/// Handles by key.
pub struct Cached<K, V> {
    known: RwLock<BTreeMap<K, Arc<V>>>,
    other: OnceLock<Arc<V>>,
    most: usize,
}

impl<K: Ord, V> Cached<K, V> {
    /// Keeps at most so many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { known: RwLock::default(), other: OnceLock::new(), most }
    }

    /// The handles of a key. They are made if it is new; `make` gets no key if there are too many.
    pub fn get<Q>(&self, key: &Q, make: impl FnOnce(Option<&Q>) -> V) -> Arc<V>
    where
        K: Borrow<Q>,
        Q: Ord + ToOwned<Owned = K> + ?Sized,
    {
        if let Some(found) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Arc::clone(found);
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(key) {
            return Arc::clone(found);
        }
        if known.len() >= self.most {
            return Arc::clone(self.other.get_or_init(|| Arc::new(make(None))));
        }
        let made = Arc::new(make(Some(key)));
        known.insert(key.to_owned(), Arc::clone(&made));
        made
    }

    /// All keys and their handles.
    pub fn all(&self) -> Vec<(K, Arc<V>)>
    where
        K: Clone,
    {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(key, value)| (key.clone(), Arc::clone(value))).collect()
    }
}

/// How many sets of label values have histograms of their own: the first ones. A histogram is twenty lines where a counter is one, and
/// a scrape has to stay short; so fewer sets have histograms than counters.
#[derive(Debug)]
pub struct Room {
    taken: AtomicUsize,
    most: usize,
}

impl Room {
    /// Room for so many.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { taken: AtomicUsize::new(0), most }
    }

    /// The value if there is room for it, else [`OTHER`].
    pub fn own<'a>(&self, value: &'a str) -> &'a str {
        if self.taken.fetch_add(1, Ordering::Relaxed) < self.most { value } else { OTHER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_made_once_and_bounded() {
        let cached: Cached<String, String> = Cached::new(2);
        let get = |key: &str| cached.get(key, |key| key.unwrap_or(OTHER).to_owned());
        assert!(Arc::ptr_eq(&get("a"), &get("a")));
        assert_eq!([get("b"), get("c"), get("d"), get("a")].map(|v| v.to_string()), ["b", OTHER, OTHER, "a"]);
        assert_eq!(cached.all().len(), 2);
    }

    #[test]
    fn the_first_have_histograms() {
        let room = Room::new(2);
        assert_eq!(["a", "b", "c", "d"].map(|value| room.own(value)), ["a", "b", OTHER, OTHER]);
    }
}

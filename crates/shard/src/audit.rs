//! A look at every row of the shard's entities, for checks that compare the rows with each other.

use bytes::Bytes;
use mainstay_engine::{EntityKey, Row};
use mainstay_storage::StorageError;

use crate::keys::after;
use crate::{Shard, corrupt};

impl Shard {
    /// Visits every row of every entity.
    ///
    /// # Errors
    /// If the store fails, or a key is none that this shard can have written.
    pub fn rows(&self, visit: &mut dyn FnMut(EntityKey, Row, Bytes)) -> Result<(), StorageError> {
        let from = self.keys().entities();
        let mut failed = None;
        self.store().scan(&from, &after(&from), &mut |key, value| match self.keys().read_row(key) {
            Some((entity, row)) => {
                visit(entity, row, Bytes::copy_from_slice(value));
                true
            }
            None => {
                failed = Some(corrupt("a key of an entity", format!("{key:02x?}")));
                false
            }
        })?;
        failed.map_or(Ok(()), Err)
    }
}

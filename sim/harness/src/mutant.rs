//! Deliberate bugs, chosen at run time: wrappers around the stores of a node (`store_mutant.rs`), its clock and disk, and its edge, as
//! clients and workers see it (`wire_mutant.rs`). The product's code is untouched.
//!
//! A simulator that does not find them would not find their like either.

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Mutant {
    /// The log's sync does nothing.
    SkipLogSync,
    /// A sync of the log covers all but what was written last.
    SyncLate,
    /// The state's flush does nothing, and says that it did: the log is purged past what is durable.
    SkipStateFlush,
    /// A log loses its last entry when it is opened.
    LoseLogSuffix,
    /// A purge removes more of the log than it was told to.
    PurgeTooFar,
    /// The state loses one row of some batches.
    TearBatch,
    /// Some timer rows are not written.
    DropTimerRow,
    /// Some task rows are not written.
    DropTaskRow,
    /// Events that wait for a task's end are not written.
    DropBufferedEvent,
    /// Request ids are not remembered.
    ForgetRequestIds,
    /// Some rows of lists are not written.
    DropListRow,
    /// A signal is acknowledged before it is committed.
    ReplyBeforeCommit,
    /// A signal is sent again under another request id.
    RetryUnderAnotherId,
    /// The completion of a task that is over is answered as if it had been one.
    AcceptStaleToken,
    /// An attempt of an activity is handed out again.
    StartTwice,
    /// A description is up to a second old.
    StaleDescribe,
    /// A page of a history ends an event early.
    ShortPage,
    /// A query is answered with what the last one was answered.
    StaleQuery,
    /// A node's clocks run a quarter too fast.
    FastClock,
    /// A command is dropped and acknowledged.
    AcknowledgeNothing,
    /// A start that finds an open run terminates it, whatever its policy.
    IgnoreConflictPolicy,
    /// Messages from one workflow to another are not kept for those who deliver them.
    DropMessage,
    /// What became of a message is forgotten, so that a repeated one is executed again.
    ForgetMessageOutcomes,
    /// What became of a command is forgotten, so that a repeated one is executed again.
    ForgetCommandOutcomes,
    /// Fired and cancelled timers stay in the index.
    KeepTimerRow,
    /// Tasks that were started stay in the index.
    KeepTaskRow,
    /// A node forgets whom it voted for.
    ForgetVote,
    /// A state that is sent to another replica lacks the outcomes of commands and messages.
    ExportWithoutOutcomes,
    /// A state that is sent to another replica lacks some rows.
    ExportTorn,
    /// A shard that was split off counts its sequences from the beginning.
    RestartSequences,
    /// An update is said to be completed before it is.
    CompleteUpdateEarly,
    /// An update is told the answer of the one before.
    ConfuseUpdates,
    /// A worker's completed activity is acknowledged and dropped.
    LoseActivityResult,
    /// A schedule that was made is not kept.
    LoseSchedule,
    /// A list leaves out its last row.
    ShortList,
}

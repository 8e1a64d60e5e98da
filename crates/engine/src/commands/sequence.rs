//! The shape of a completion's command list, checked before anything else: known types, and at most one close command, last.

use mainstay_api::temporal::command::v1::Command;
use mainstay_api::temporal::enums::v1::CommandType;

use crate::{Answer, Error};

const BAD_SEQUENCE: &str = "invalid command sequence";

/// # Errors
/// A wrong list is refused without failing the task: a worker cannot have meant it.
pub(super) fn check(commands: &[Command]) -> Answer<()> {
    let unknown = commands
        .iter()
        .find(|c| CommandType::try_from(c.command_type).map_or(true, |kind| kind == CommandType::Unspecified));
    if let Some(command) = unknown {
        let name = match command.command_type {
            0 => "Unspecified".to_string(),
            number => number.to_string(),
        };
        return Err(Error::invalid(format!("unknown command type: {name}")).into());
    }
    for (at, command) in commands.iter().enumerate() {
        if closes(command.command_type()) && at + 1 != commands.len() {
            let names: Vec<String> = commands.iter().map(|c| camel(c.command_type())).collect();
            let text = format!(
                "{BAD_SEQUENCE}: [{}], command {} must be the last command.",
                names.join(", "),
                camel(command.command_type())
            );
            return Err(Error::invalid(text).into());
        }
    }
    Ok(())
}

/// Whether a completion was refused before any of its commands was looked at: it does not fail the task.
#[must_use]
pub fn is_bad_sequence(refusal: &Error) -> bool {
    matches!(refusal, Error::InvalidArgument(text) if text.starts_with(BAD_SEQUENCE))
}

fn closes(kind: CommandType) -> bool {
    matches!(
        kind,
        CommandType::CompleteWorkflowExecution
            | CommandType::FailWorkflowExecution
            | CommandType::CancelWorkflowExecution
            | CommandType::ContinueAsNewWorkflowExecution
    )
}

/// A command's name in running text.
pub(super) fn camel(kind: CommandType) -> String {
    let name = kind.as_str_name().trim_start_matches("COMMAND_TYPE_");
    let word = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        format!("{first}{}", rest.to_ascii_lowercase())
    };
    name.split('_').map(word).collect()
}

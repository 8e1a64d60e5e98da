//! Cron strings and schedule specs.

use mainstay_api::temporal::schedule::v1::ScheduleSpec;
use mainstay_base::{Prng, Timestamp};
use mainstay_calendar::{CronSchedule, Spec, canonical, show_defaults};
use prost::Message;

use super::{Target, shape};
use crate::generate::Generator;

/// 2026-11-26.
const NOW: i64 = 1_795_651_200;

/// Cron strings.
pub struct Crons;

impl Target for Crons {
    fn name(&self) -> &'static str {
        "cron"
    }

    fn words(&self) -> &'static [&'static str] {
        &[
            "*",
            "*/5",
            "1-5",
            "1,2",
            " ",
            "@every ",
            "@daily",
            "@hourly",
            "1h30m",
            "CRON_TZ=Europe/Berlin ",
            "MON",
            "JAN",
            "L",
            "?",
            "59",
            "31",
        ]
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let seeds = ["* * * * *", "0 12 1-7 * MON", "@every 1h30m", "CRON_TZ=Europe/Berlin 30 2 * 3 *", "0 0 31 2 *"];
        seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
    }

    fn run(&mut self, input: &[u8]) -> Result<String, String> {
        let Ok(text) = std::str::from_utf8(input) else { return Ok("no text".into()) };
        let cron = match CronSchedule::parse(text) {
            Ok(cron) => cron,
            Err(error) => return Ok(shape(&error.to_string())),
        };
        let mut at = NOW;
        for _ in 0..5 {
            match cron.next_after(at) {
                Some(next) if next <= at => return Err(format!("the time after {at} is {next}")),
                Some(next) => at = next,
                None => return Ok("never".into()),
            }
        }
        Ok("times".into())
    }
}

/// Encoded schedule specs.
#[derive(Default)]
pub struct Specs(Option<Generator>);

impl Target for Specs {
    fn name(&self) -> &'static str {
        "schedule-spec"
    }

    fn words(&self) -> &'static [&'static str] {
        &["* * * * *", "@every 1s", "Europe/Berlin", "MON-FRI", "1-5/2", "0"]
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let cron = ScheduleSpec { cron_string: vec!["0 12 * * MON-FRI".into()], ..ScheduleSpec::default() };
        vec![Vec::new(), cron.encode_to_vec()]
    }

    fn generate(&mut self, prng: &mut Prng) -> Option<Vec<u8>> {
        let generator = self.0.get_or_insert_with(Generator::new);
        let kind = generator.kind("temporal.api.schedule.v1.ScheduleSpec")?;
        Some(generator.message(prng, &kind, 0).encode_to_vec())
    }

    fn run(&mut self, input: &[u8]) -> Result<String, String> {
        let Ok(mut spec) = ScheduleSpec::decode(input) else { return Ok("no spec".into()) };
        let compiled = Spec::compile(&spec);
        match canonical(&spec) {
            Err(error) if compiled.is_err() => return Ok(shape(&error.to_string())),
            Err(error) => return Err(format!("a spec that compiles has no canonical form: {error}")),
            Ok(canonical_form) => {
                let again =
                    canonical(&canonical_form).map_err(|error| format!("its canonical form is wrong: {error}"))?;
                if again != canonical_form {
                    return Err("the canonical form has another canonical form".into());
                }
            }
        }
        show_defaults(&mut spec);
        let compiled = match compiled {
            Ok(compiled) => compiled,
            Err(error) => return Ok(shape(&error.to_string())),
        };
        let mut at = Timestamp::from_nanos(NOW * 1_000_000_000);
        for _ in 0..3 {
            let Some(next) = compiled.next_after(at, 7) else { return Ok("never".into()) };
            if next.nominal <= at {
                return Err(format!("the time after {at:?} is {:?}", next.nominal));
            }
            at = next.nominal;
        }
        Ok("times".into())
    }
}

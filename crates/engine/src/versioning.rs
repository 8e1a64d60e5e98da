//! A run's versioning override: which version's workers are to get it, whatever it says itself. Only kept and shown: tasks are not routed
//! by it.
//!
//! Clients may ask for one in fields that are older than others; histories carry the newest ones only, and descriptions both.
//! (Recorded of server 1.32.)

use mainstay_api::temporal::deployment::v1::WorkerDeploymentVersion;
use mainstay_api::temporal::enums::v1::VersioningBehavior;
use mainstay_api::temporal::workflow::v1::VersioningOverride;
use mainstay_api::temporal::workflow::v1::versioning_override::{Override, PinnedOverride, PinnedOverrideBehavior};

/// The override in the newest fields alone.
#[allow(deprecated)]
pub(crate) fn newest(given: &VersioningOverride) -> VersioningOverride {
    let of_old = || match given.behavior() {
        VersioningBehavior::AutoUpgrade => Some(Override::AutoUpgrade(true)),
        VersioningBehavior::Pinned => Some(Override::Pinned(PinnedOverride {
            behavior: PinnedOverrideBehavior::Pinned as i32,
            version: old_version(given),
        })),
        VersioningBehavior::Unspecified => None,
    };
    VersioningOverride { r#override: given.r#override.clone().or_else(of_old), ..VersioningOverride::default() }
}

#[allow(deprecated)]
fn old_version(given: &VersioningOverride) -> Option<WorkerDeploymentVersion> {
    let version = |deployment_name: &str, build_id: &str| WorkerDeploymentVersion {
        deployment_name: deployment_name.to_string(),
        build_id: build_id.to_string(),
    };
    let text = given.pinned_version.split_once('.').map(|(name, build)| version(name, build));
    text.or_else(|| given.deployment.as_ref().map(|old| version(&old.series_name, &old.build_id)))
}

/// The override in all fields that say it, for clients of any age.
#[allow(deprecated)]
pub(crate) fn shown(kept: &VersioningOverride) -> VersioningOverride {
    let mut all = kept.clone();
    all.set_behavior(behavior(Some(kept)));
    if let Some(Override::Pinned(PinnedOverride { version: Some(version), .. })) = &kept.r#override {
        all.pinned_version = format!("{}.{}", version.deployment_name, version.build_id);
    }
    all
}

/// What an override makes of a run.
pub(crate) fn behavior(kept: Option<&VersioningOverride>) -> VersioningBehavior {
    match kept.and_then(|kept| kept.r#override.as_ref()) {
        Some(Override::AutoUpgrade(true)) => VersioningBehavior::AutoUpgrade,
        Some(Override::Pinned(_)) => VersioningBehavior::Pinned,
        _ => VersioningBehavior::Unspecified,
    }
}

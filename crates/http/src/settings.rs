//! What Temporal's web interface asks first: which server this is, and what it may show.

use serde_json::{Value, json};

/// The version of the interface that this server answers as. From 2.23.0 on it escapes paths once.
const UI_VERSION: &str = "2.45.0";

/// `GET /api/v1/settings`.
pub(crate) fn settings(codec_endpoint: &str) -> Value {
    json!({
        "Auth": {"Enabled": false, "Options": null, "RedirectToProvider": false},
        "BannerText": "",
        "DefaultNamespace": "default",
        "ShowTemporalSystemNamespace": false,
        "NavCollapsedByDefault": false,
        "FeedbackURL": "",
        "NotifyOnNewVersion": false,
        "DisableNewsFetch": true,
        "Codec": {
            "Endpoint": codec_endpoint,
            "PassAccessToken": false,
            "IncludeCredentials": false,
            "DefaultErrorMessage": "",
            "DefaultErrorLink": "",
        },
        "Version": UI_VERSION,
        "DisableWriteActions": false,
        "WorkflowTerminateDisabled": false,
        "WorkflowCancelDisabled": false,
        "WorkflowSignalDisabled": false,
        "WorkflowUpdateDisabled": false,
        "WorkflowResetDisabled": false,
        "WorkflowPauseDisabled": false,
        "BatchActionsDisabled": false,
        "StartWorkflowDisabled": false,
        "HideWorkflowQueryErrors": false,
        "RefreshWorkflowCountsDisabled": false,
        "ActivityCommandsDisabled": false,
    })
}

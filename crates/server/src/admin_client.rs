//! The commands' way to a running node: its AdminService.

use std::time::Duration;

use mainstay_api::admin::admin_service_client::AdminServiceClient;
use tonic::transport::{Channel, Endpoint};

use crate::Failure;

const WITHIN: Duration = Duration::from_secs(12);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A client of the node at an address.
pub async fn connect(address: &str) -> Result<AdminServiceClient<Channel>, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| silent(address, &error))?;
    let channel = endpoint.connect_timeout(CONNECT_WITHIN).timeout(WITHIN).connect().await;
    Ok(AdminServiceClient::new(channel.map_err(|error| silent(address, &error))?))
}

/// What to say of a node that does not answer.
pub fn silent(address: &str, error: &dyn std::fmt::Display) -> Failure {
    format!("no node answers at {address}: {error}; say another --address")
}

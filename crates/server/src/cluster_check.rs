//! `cluster check`: what is wrong with a cluster, and what to do about it.

use mainstay_api::admin::CheckClusterRequest;
use mainstay_runtime::AsyncRuntime;
use mainstay_runtime_tokio::TokioRuntime;

use crate::cli::{Asked, Global};
use crate::cluster_status::quoted;
use crate::{Failure, admin_client};

/// Prints what is wrong; fails if something is.
pub fn run(global: &Global, flags: &Asked) -> Result<(), Failure> {
    let mut runtime = TokioRuntime::new(1);
    let problems = runtime.block_on(async {
        let mut client = admin_client::connect(&flags.address).await?;
        let answer = client.check_cluster(CheckClusterRequest {}).await;
        Ok::<_, Failure>(
            answer.map_err(|error| admin_client::silent(&flags.address, &error.message()))?.into_inner().problems,
        )
    })?;
    if global.ignored.output.as_deref() == Some("json") {
        let quoted: Vec<String> = problems.iter().map(|problem| quoted(problem)).collect();
        println!(r#"{{"problems":[{}]}}"#, quoted.join(","));
    } else {
        problems.iter().for_each(|problem| println!("- {problem}"));
    }
    match problems.len() {
        0 => {
            if global.ignored.output.as_deref() != Some("json") {
                println!("nothing is wrong");
            }
            Ok(())
        }
        1 => Err("one thing is wrong".into()),
        count => Err(format!("{count} things are wrong")),
    }
}

//! Reaching a shared controller.

use std::sync::Arc;

use haul_client::Client;
use haul_identity::{Secret, Trust, client_config, controller_name};
use haul_transport::{Address, Dialer, Proxy};

use crate::failure::Failure;

/// What dials a controller at these addresses, by way of the proxy that the environment names.
pub(crate) fn dialer(addresses: &[String], trust: Trust) -> Result<Dialer, Failure> {
    let addresses = addresses
        .iter()
        .map(|text| {
            text.parse::<Address>()
                .map_err(|error| Failure::usage(error.to_string()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let tls = client_config(trust)
        .map_err(|error| Failure::usage("the controller's authorities cannot be used").because(&error))?;
    let proxy = Proxy::from_variables(variables)
        .map_err(|error| Failure::usage(error.to_string()).help("mend the variable, or unset it"))?;
    Ok(Dialer::new(addresses, Arc::new(tls), controller_name(), proxy))
}

/// A connection to a shared controller.
pub(crate) async fn connect(addresses: &[String], trust: Trust, secret: &Secret) -> Result<Client, Failure> {
    let dialer = dialer(addresses, trust)?;
    let client = Client::connect(Arc::new(dialer)).await?;
    client
        .with_token(&secret.reveal())
        .map_err(|error| Failure::usage(error.to_string()))
}

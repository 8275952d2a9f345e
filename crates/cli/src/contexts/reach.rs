//! Reaching a shared controller.

use std::sync::Arc;

use haul_client::Client;
use haul_identity::{Bundle, Secret, Trust, client_config, controller_name};
use haul_transport::{Address, Dialer, Proxy};

use super::{ContextFile, now_unix};
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

/// The authorities of a controller, as it says itself over a connection that proved where it leads.
pub(crate) async fn authorities(client: &Client) -> Result<Bundle, Failure> {
    let authorities = client.authorities().await?;
    Bundle::from_der(
        authorities
            .list
            .into_iter()
            .map(|authority| authority.certificate),
    )
    .map_err(|error| Failure::infrastructure("the controller's authorities cannot be read").because(&error))
}

/// Asks a controller whom to trust from now on, and keeps the answer. That it cannot be asked or kept now is no harm: it
/// is asked again by the next command.
pub(crate) async fn refresh(client: &Client, name: &str, store: &ContextFile) {
    let Ok(authorities) = authorities(client).await else {
        return;
    };
    let kept = store.change(|contexts| {
        if let Some(controller) = contexts.contexts.get_mut(name) {
            controller.authorities = authorities;
            controller.asked_unix = now_unix();
        }
    });
    if let Err(error) = kept {
        tracing::debug!(%error, "the authorities of {name} were not kept");
    }
}

/// A connection to a shared controller. One that does not answer is nobody's to start: it is an error.
pub(crate) async fn connect(addresses: &[String], trust: Trust, secret: &Secret) -> Result<Client, Failure> {
    let dialer = dialer(addresses, trust)?;
    let client = Client::connect(Arc::new(dialer)).await?;
    client
        .with_token(&secret.reveal())
        .map_err(|error| Failure::usage(error.to_string()))
}

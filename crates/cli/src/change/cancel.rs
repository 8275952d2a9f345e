//! `haul cancel`.

use crate::args::CancelArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::query::{find, index_of};

pub(crate) async fn cancel(args: CancelArgs, context: &mut Context) -> Result<Exit, Failure> {
    let client = context.client().await?;
    // All are looked up first, so that a slip in the last name stops nothing.
    let mut wanted = Vec::new();
    for name in &args.jobs {
        let details = find(&client, name).await?;
        let index = match name.task {
            Some(_) if details.spec.array.is_some() => Some(index_of(&details, name)?),
            Some(_) => index_of(&details, name).map(|_| None)?,
            None => None,
        };
        wanted.push((details.job.id, index));
    }
    for (id, index) in wanted {
        let name = index.map_or_else(|| id.to_string(), |index| format!("{id}.{index}"));
        if client.cancel(id, index).await? {
            context.output.hint(&format!("{name} had ended already"));
        } else {
            context.output.hint(&format!(
                "{name} is being stopped; `haul wait {name}` waits for its end"
            ));
        }
    }
    Ok(Exit::SUCCESS)
}

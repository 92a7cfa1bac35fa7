//! From a configuration to an instance that can be used.

use crate::{Error, Instance, InstanceConfig, command, gtm, iris};

/// Finds programs, users and credentials; asks the instance nothing.
pub fn open(config: InstanceConfig) -> Result<Instance, Error> {
    let engine: Box<dyn crate::Engine> = match &config {
        InstanceConfig::Iris(c) => Box::new(iris::Iris::open(c, iris::Product::Iris)?),
        InstanceConfig::Cache(c) => Box::new(iris::Iris::open(c, iris::Product::Cache)?),
        InstanceConfig::Gtm(c) => Box::new(gtm::Gtm::new(c.clone())?),
        InstanceConfig::Command(c) => Box::new(command::Command::new(c.clone())?),
    };
    Ok(Instance { name: config.name().clone(), config, engine })
}

/// What can be found without a configuration: IRIS and Caché, by their own lists. GT.M keeps no list.
pub fn discover() -> Result<Vec<InstanceConfig>, Error> {
    let found = iris::discover_instances(&[])?;
    Ok(found
        .into_iter()
        .map(|(product, c)| match product {
            iris::Product::Iris => InstanceConfig::Iris(c),
            iris::Product::Cache => InstanceConfig::Cache(c),
        })
        .collect())
}

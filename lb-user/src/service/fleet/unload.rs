//! Takes down all that a controller of many services has left.

use std::fs;
use std::io;

use super::super::{Removed, UpError, forget, is_locked, list, registration, remove};
use super::FleetError;
use crate::dataplane;
use crate::names::PlaneName;
use crate::paths::Roots;

/// Ends every service of a controller that has ended, and removes its data plane; what is not there is no error.
pub async fn unload(roots: &Roots, plane: &PlaneName) -> Result<Removed, FleetError> {
    let paths = roots.plane(plane);
    if is_locked(&paths.lock()) {
        return Err(FleetError::Running(plane.clone()));
    }
    let mut removed = Vec::new();
    let names = list(roots).map_err(UpError::files(&roots.run))?;
    for name in names {
        let service = roots.service(&name);
        let Some(registration) = registration::load(&service)? else { continue };
        if registration.run_by.as_ref() != Some(plane) {
            continue;
        }
        if registration.plane.is_none() {
            removed.extend(remove(roots, &name).await?);
        } else {
            forget(&service)?;
        }
        removed.push(format!("service {name}"));
    }
    for (_, pins) in paths.pinned() {
        dataplane::unload(&pins).map_err(UpError::files(&pins))?;
        removed.push(format!("pins {}", pins.display()));
    }
    match fs::remove_dir_all(paths.run_dir()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(UpError::files(&paths.run_dir())(error).into())
        }
        _ => Ok(removed),
    }
}

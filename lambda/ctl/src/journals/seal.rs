//! Encryption of pieces, when it is asked for: age (age-encryption.org/v1). The host has public keys alone; who can read what it
//! saved is whoever keeps the identity, elsewhere.

use super::failed;
use crate::out::usage;
use age::x25519::{Identity, Recipient};
use protocol::wire::Problem;
use std::io::{Read, Write};
use std::path::Path;

/// `age1…`
pub fn recipients(keys: &[String]) -> Result<Vec<Recipient>, Problem> {
    keys.iter().map(|k| k.parse().map_err(|e| usage(format!("{k:?} is no public key of age: {e}")))).collect()
}

/// The lines `AGE-SECRET-KEY-…` of a file, as `age-keygen` writes it.
pub fn identities(file: Option<&Path>) -> Result<Vec<Identity>, Problem> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(file).map_err(|e| usage(format!("{}: {e}", file.display())))?;
    let keys = text.lines().map(str::trim).filter(|l| l.starts_with("AGE-SECRET-KEY-"));
    let all = keys.map(|k| k.parse().map_err(|e| usage(format!("{}: {e}", file.display())))).collect::<Result<Vec<Identity>, _>>()?;
    if all.is_empty() { Err(usage(format!("{} has no AGE-SECRET-KEY-", file.display()))) } else { Ok(all) }
}

pub fn close(plain: &[u8], to: &[Recipient]) -> Result<Vec<u8>, Problem> {
    if to.is_empty() {
        return Ok(plain.to_vec());
    }
    let keys = to.iter().map(|r| r as &dyn age::Recipient);
    let sealer = age::Encryptor::with_recipients(keys).map_err(|e| failed(format!("could not encrypt: {e}")))?;
    let mut out = Vec::new();
    let sealed = sealer.wrap_output(&mut out).and_then(|mut w| w.write_all(plain).and_then(|()| w.finish().map(|_| ())));
    sealed.map_err(|e| failed(format!("could not encrypt: {e}")))?;
    Ok(out)
}

pub fn open(sealed: &[u8], with: &[Identity]) -> Result<Vec<u8>, Problem> {
    let no = |why: String| {
        failed(format!("could not decrypt: {why}")).next("--identity: the file whose public key the journals were encrypted to")
    };
    let opener = age::Decryptor::new(sealed).map_err(|e| no(e.to_string()))?;
    let mut reader = opener.decrypt(with.iter().map(|i| i as &dyn age::Identity)).map_err(|e| no(e.to_string()))?;
    let mut out = Vec::new();
    reader.read_to_end(&mut out).map_err(|e| no(e.to_string()))?;
    Ok(out)
}

//! `snapfreeze setup iris --print`: what an administrator does once, so that the agent can log in.

use super::config::IrisConfig;

/// The steps as text. Nothing is changed.
pub fn setup_steps(config: &IrisConfig) -> String {
    let name = &config.name;
    let user = config.run_as.as_deref().unwrap_or("the user who runs the agent (root)");
    let os_user = config.run_as.as_deref().unwrap_or("root");
    let log_dir = config.log_dir.display();
    let prefix = if config.exec_prefix.is_empty() { String::new() } else { format!("{} ", config.exec_prefix.join(" ")) };
    let as_user = config.run_as.as_deref().map_or(String::new(), |u| format!("sudo -u {u} "));
    let login = if let Some(file) = &config.credentials_file {
        format!(
            "You have chosen a password login: {file} holds two lines, user and password.\n\
             \x20  chown root {file}; chmod 600 {file}\n\
             \x20  Service %Service_Terminal must allow \"Password\" (System Administration > Security > Services).\n",
            file = file.display()
        )
    } else {
        format!(
            "2. Allow operating-system authentication, in two places (Management Portal):\n\
             \x20  a) System Administration > Security > System Security > Authentication/Web Session Options:\n\
             \x20     \"Allow Operating System authentication\"\n\
             \x20  b) System Administration > Security > Services > %Service_Terminal: \"Operating System\"\n\
             3. Create the IRIS user {os_user:?} (System Administration > Security > Users), the same name as the OS user:\n\
             \x20  Startup Namespace: empty, or %SYS (another one makes the engine ignore -U%SYS); Startup Tag^Routine: empty.\n\
             \x20  Role: the one of step 1. No password login is needed.\n"
        )
    };
    format!(
        "Setup of instance {name} for snapfreeze. The agent calls the instance's programs as {user}.\n\
         \n\
         1. Create a role, for instance SnapfreezeBackup (System Administration > Security > Roles), with\n\
         \x20  %Admin_Operate:USE     ExternalFreeze, ExternalThaw, IsWDSuspended, journal state\n\
         \x20  %DB_IRISSYS:READ       namespace %SYS, and messages of the class dictionary\n\
         \x20  %Service_Terminal:USE  the session itself\n\
         {login}\
         4. The directory of the freeze's LogFile must be writable for that user and lie on tmpfs: {log_dir}\n\
         5. See that it works. Each line must answer without asking for a login:\n\
         \x20  {as_user}{prefix}iris session {name} -U%SYS \"##Class(Backup.General).IsWDSuspendedExt()\"; echo $?     (3: not frozen)\n\
         \x20  snapfreeze check\n\
         \x20  snapfreeze rehearse\n\
         \n\
         Not verified on a real IRIS: that the three privileges of step 1 are enough (if `check` reports a login but no\n\
         answer to IsWDSuspended, give %Admin_Manage:USE as well, or %Manager while you find out), the menu names of your\n\
         version, and Caché (there: %DB_CACHESYS, ccontrol). The thaw's second rung needs no login at all (class reference,\n\
         Backup.General.ExternalThaw), so a missing role can keep a freeze from happening, not a thaw.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_both_switches_the_user_and_what_is_not_verified() {
        let mut c = IrisConfig::named("PROD".parse().unwrap());
        c.run_as = Some("irisowner".into());
        let text = setup_steps(&c);
        for needs in [
            "%Service_Terminal",
            "Allow Operating System authentication",
            "\"irisowner\"",
            "Startup Namespace: empty, or %SYS",
            "Not verified",
            "PROD",
            "/run/snapfreeze/log",
        ] {
            assert!(text.contains(needs), "{needs}\n{text}");
        }
        c.credentials_file = Some("/etc/snapfreeze/iris.cred".into());
        assert!(setup_steps(&c).contains("chmod 600 /etc/snapfreeze/iris.cred"));
    }
}

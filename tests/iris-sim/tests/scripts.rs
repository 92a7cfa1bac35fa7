//! The call forms that people's scripts use, word for word.

mod common;
use common::Sim;

#[test]
fn the_aws_samples_discovery_and_calls() {
    let sim = Sim::start(&[]);
    let ran = sim.bash(
        r###"
        LOGDIR=./
        iris_instances=$(iris qall 2>/dev/null | tail -n +3 | grep '^up' | cut -c5-  | awk '{print $1}')
        echo "instances: $iris_instances"
        for INST in $iris_instances; do
          LOGFILE=$LOGDIR/$INST-pre_post.log
          irissession $INST -U '%SYS' "##Class(Backup.General).IsWDSuspendedExt()"; echo "before $?"
          irissession $INST -U '%SYS' "##Class(Backup.General).ExternalFreeze(\"$LOGFILE\",,,,,,600,,,300)"; echo "freeze $?"
          irissession $INST -U '%SYS' "##Class(Backup.General).IsWDSuspendedExt()"; echo "frozen $?"
          irissession $INST -U%SYS "##Class(Backup.General).ExternalThaw(\"$LOGFILE\")"; echo "thaw $?"
          irissession $INST -U%SYS "##Class(Backup.General).ExternalSetHistory(\"$LOGFILE\")"; echo "history $?"
        done
        "###,
    );
    assert_eq!(ran.out, "instances: IRIS\nbefore 3\nfreeze 5\nfrozen 5\nthaw 5\nhistory 5\n");
    let log = std::fs::read_to_string(sim.dir.path().join("IRIS-pre_post.log")).expect("the log lies where the script ran");
    assert!(log.contains("System suspended") && log.contains("System resumed"));
    let limit = sim.history().iter().find(|e| e["event"] == "freeze_called").map(|e| e["limit_s"].clone());
    assert_eq!(limit, Some(serde_json::json!(300)));
}

#[test]
fn the_azure_samples_calls() {
    let sim = Sim::start(&[]);
    let ran = sim.bash(
        r###"
        iris session iris -U%SYS "##Class(Backup.General).ExternalFreeze(0)" >> freeze.log
        status=$?
        if [ $status -eq 5 ]; then printf "SYSTEM IS FROZEN\n" >> freeze.log; fi
        iris session iris -U%SYS "##Class(Backup.General).ExternalThaw(0)" >> freeze.log
        status=$?
        if [ $status -eq 5 ]; then printf "SYSTEM IS UNFROZEN\n" >> freeze.log; fi
        grep -c 'SYSTEM IS' freeze.log
        iris session iris -U%SYS "##Class(Backup.General).ExternalFreeze(0)" |& tee -a freeze.log > /dev/null
        echo "tee's code: $?"
        "###,
    );
    assert_eq!(ran.out, "2\ntee's code: 0\n");
}

#[test]
fn the_class_documentations_and_the_fields_other_forms() {
    let sim = Sim::start(&[]);
    let ran = sim.bash(
        r###"
        say() { "$@"; echo "$?"; }
        say iris terminal IRIS -U%SYS "##Class(Backup.General).ExternalFreeze()"
        say iris terminal IRIS -U%SYS "##Class(Backup.General).ExternalThaw()"
        say iris session IRIS -U %SYS '##CLASS(Backup.General).ExternalFreeze("","backup",1,0,0,1,0,"","",300)'
        say iris session IRIS -U%SYS "##class(Backup.General).ExternalThaw()"
        say iris freeze IRIS timeout=300
        say iris thaw IRIS
        say ccontrol session IRIS -U %SYS "##Class(Backup.General).IsWDSuspendedExt()"
        cd root/iris/mgr && say ../../bin/irisdb -s. -U%SYS "##Class(Backup.General).ExternalFreeze()"
        say irisstat -W
        say iris session IRIS -U%SYS "do ##class(Backup.General).ExternalFreeze() halt"
        say iris session IRIS -U%%SYS "##Class(Backup.General).ExternalFreeze()"
        "###,
    );
    let codes: Vec<&str> = ran.out.lines().filter(|l| l.parse::<i32>().is_ok()).collect();
    assert_eq!(codes, ["5", "5", "5", "5", "0", "0", "3", "5", "0", "1", "1"], "{}", ran.out);
    assert!(ran.out.contains("Access Denied"));
    assert!(!sim.suspended());
}

#[test]
fn credentials_come_from_redirected_input() {
    let sim = Sim::start(&[]);
    sim.ctl(&["login=password"]);
    let ran = sim.bash(
        r###"
        printf '_SYSTEM\nSYS\n' > login.key
        iris terminal IRIS -U%SYS "##Class(Backup.General).ExternalFreeze()" < login.key > /dev/null; echo $?
        iris terminal IRIS -U%SYS "##Class(Backup.General).IsWDSuspendedExt()" < /dev/null > /dev/null; echo $?
        iris terminal IRIS -U%SYS "##Class(Backup.General).ExternalThaw()" < /dev/null; echo $?
        "###,
    );
    assert_eq!(ran.out, "5\n1\n5\n", "a thaw needs no login");
}

#[test]
fn irisstat_shows_the_suspension() {
    let sim = Sim::start(&[]);
    assert!(!sim.iris(&["stat", "IRIS"]).out.contains("WDSUSPD"));
    sim.iris(&["freeze", "IRIS"]);
    assert_eq!(sim.bash("iris stat IRIS | grep -c WDSUSPD; irisstat | grep -c WDSUSPD").out, "1\n1\n");
    assert_eq!(sim.iris(&["stat", "IRIS", "-W"]).code, 0);
    assert!(!sim.iris(&["stat", "IRIS"]).out.contains("WDSUSPD"));
    assert!(sim.messages().contains("irisstat -W"), "its use is recorded in the messages log");
}

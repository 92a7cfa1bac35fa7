//! Scripts on standard input, as people write them for these calls.

#![allow(clippy::disallowed_methods, reason = "the model is outside the agent's doors")]

mod common;
use common::Sim;

/// What a line prints between the sentinels `<<` and `>>`.
fn printed(sim: &Sim, lines: &[&str]) -> Vec<String> {
    let ran = sim.script(&(lines.join("\n") + "\n"));
    assert_eq!(ran.code, 0, "{}", ran.out);
    ran.out.split("<<").skip(1).map(|part| part.split(">>").next().unwrap_or_default().to_string()).collect()
}

#[test]
fn expressions_go_from_left_to_right() {
    let sim = Sim::start(&[]);
    for (expression, value) in [
        ("1+2*3", "9"),
        ("\"a\"\"b\"_1+1", "1"),
        ("\"a\"_\"b\"=\"ab\"", "1"),
        ("'0", "1"),
        ("5'=5", "0"),
        ("3>2&(1<2)", "1"),
        ("0!1", "1"),
        ("0||1&&1", "1"),
        ("7#4", "3"),
        ("7\\2", "3"),
        ("1/4", ".25"),
        ("-\"3abc\"", "-3"),
        ("+\"007\"", "7"),
        ("$piece(\"a^b^c\",\"^\",2)", "b"),
        ("$p(\"a^b^c\",\"^\",2,3)", "b^c"),
        ("$length(\"abc\")", "3"),
        ("$l(\"a,b,c\",\",\")", "3"),
        ("$extract(\"hello\",2,4)", "ell"),
        ("$e(\"hello\")", "h"),
        ("$zconvert(\"Ab\",\"U\")", "AB"),
        ("$zstrip(\"  x \",\"<>W\")", "x"),
        ("$select(0:\"a\",1:\"b\")", "b"),
        ("$case(2,1:\"one\",2:\"two\",:\"none\")", "two"),
        ("$case(9,1:\"one\",:\"none\")", "none"),
        ("$get(nothing,\"d\")", "d"),
        ("$data(nothing)", "0"),
        ("$find(\"abc\",\"b\")", "3"),
        ("$char(65,66)", "A"),
        ("$replace(\"a-b\",\"-\",\"+\")", "a+b"),
        ("$translate(\"abc\",\"b\",\"x\")", "axc"),
        ("$namespace", "%SYS"),
        ("\"12\"?1N", "0"),
        ("\"12\"?1.N", "1"),
        ("\"20240101.001\"?8N1\".\"3N", "1"),
        ("\"20240101.001z\"?8N1\".\"3N.1\"z\"", "1"),
        ("\"x\"?2A", "0"),
    ] {
        let out = printed(&sim, &[&format!("write \"<<\",{expression},\">>\"")]);
        assert_eq!(out, [value], "{expression}");
    }
}

#[test]
fn commands_in_their_short_and_long_forms() {
    let sim = Sim::start(&[]);
    let out = printed(
        &sim,
        &[
            "s x=1,y=x+1 w \"<<\",x,y,\">>\"",
            "set:x=1 z=\"yes\" write:x=2 \"<<no>>\" w \"<<\",z,\">>\"",
            "if x=1 { w \"<<block>>\" } else { w \"<<else>>\" }",
            "if x=2 { w \"<<a>>\" } elseif y=2 { w \"<<b>>\" } else { w \"<<c>>\" }",
            "i x=1 w \"<<old>>\"",
            "i x=2 w \"<<never>>\"",
            "e  w \"<<otherwise>>\"",
            "f i=1:1:3 w \"<<\",i,\">>\"",
            "for i=3:-1:1 { s a(i)=i*i }",
            "w \"<<\",a(3),\",\",$d(a),\">>\"",
            "k a w \"<<\",$d(a),\">>\"",
            "s ^snap(\"x\",1)=\"kept\" w \"<<\",^snap(\"x\",1),\">>\"",
            "k ^snap(\"x\",1) w \"<<\",$g(^snap(\"x\",1),\"gone\"),\">>\"",
            "hang 0.01 w \"<<\",1,\">>\" ; a comment",
            "w undefined",
            "w \"<<\",$ZERROR[\"UNDEFINED\",\">>\" f i=1:1:9 quit:i>2  w \"<<\",i,\">>\"",
            "set:(x=1)&(y=2)&($ZHOROLOG>0) z=\"all\" w \"<<\",z,\">>\"",
            "try { w undefined } catch e { w \"<<\",e.Name,\">>\" }",
        ],
    );
    assert_eq!(
        out,
        [
            "12",
            "yes",
            "block",
            "b",
            "old",
            "otherwise",
            "1",
            "2",
            "3",
            "9,10",
            "0",
            "kept",
            "gone",
            "1",
            "1",
            "1",
            "2",
            "all",
            "<UNDEFINED"
        ]
    );
}

#[test]
fn an_error_ends_its_line_only_and_the_session_exits_0() {
    let sim = Sim::start(&[]);
    let ran = sim.script("write nothing write \"never\"\nwrite (\nfoo\ndo ##class(No.Such).Method()\nwrite ##class(Backup.General).NoSuch()\nwrite \"still here\"\n");
    assert_eq!(ran.code, 0);
    for text in [
        "<UNDEFINED> *nothing",
        "<SYNTAX>",
        "<CLASS DOES NOT EXIST> *No.Such",
        "<METHOD DOES NOT EXIST> *NoSuch,Backup.General",
        "still here",
    ] {
        assert!(ran.out.contains(text), "{text}: {}", ran.out);
    }
    assert!(!ran.out.contains("never"));
    assert!(ran.out.contains("\n%SYS>"));
}

#[test]
fn terminate_sets_the_exit_code_and_halt_is_0() {
    let sim = Sim::start(&[]);
    assert_eq!(sim.script("do $SYSTEM.Process.Terminate($JOB,7)\nwrite \"never\"\n").code, 7);
    assert_eq!(sim.script("s sc=1 d $system.Process.Terminate(,'+sc)\n").code, 0);
    assert_eq!(sim.script("halt\n").code, 0);
    assert_eq!(sim.script("h\n").code, 0);
    assert_eq!(sim.script("").code, 0);
}

#[test]
fn one_round_trip_freezes_and_tells_all() {
    let sim = Sim::start(&[]);
    let out = printed(
        &sim,
        &[
            "s sc=##class(Backup.General).ExternalFreeze(\"\",\"mine\",1,,,,600,,,300,.req)",
            "w \"<<\",+sc,\">>\",\"<<\",req,\">>\",\"<<\",##class(%SYS.Journal.System).GetCurrentFileName(),\">>\"",
            "w \"<<\",##class(%SYS.Journal.System).GetCurrentFile().Name,\">>\"",
            "w \"<<\",##class(%SYS.Journal.System).GetCurrentFileOffset()>262272,\">>\"",
            "s x=##class(%SYS.Journal.System).GetImageJournalInfo(.f,.o,.c,.oo,.oc) w \"<<\",f,\",\",c,\",\",oc,\">>\"",
            "w \"<<\",##class(Backup.General).IsWDSuspended(),\">>\"",
            "w \"<<\",##class(%SYS.Journal.File).GetReason(f),\">>\"",
            "w \"<<\",##class(%SYS.Journal.System).GetState(),##class(%SYS.Journal.System).GetStateString(),\">>\"",
            "s sc=##class(Backup.General).ExternalFreeze() w \"<<\",$system.Status.GetErrorText(sc),\">>\"",
            "w \"<<\",$system.Status.IsError(sc),\">>\"",
            "s sc=##class(Backup.General).ExternalThaw() w \"<<\",sc,##class(Backup.General).IsWDSuspended(),\">>\"",
            "w \"<<\",##class(Backup.General).ExternalSetHistory(\"\",\"done\"),\">>\"",
        ],
    );
    let journal = sim.state()["journal"].as_str().expect("a path").to_string();
    let error = "ERROR #7201: Backup.General.ExternalFreeze cannot run with switch 10 or 13 already set";
    let image = format!("{journal},2,2");
    assert_eq!(out, ["1", &journal, &journal, &journal, "1", &image, "1", "by backup", "0Normal", error, "1", "10", "1"].map(String::from));
}

#[test]
fn an_old_version_takes_nine_arguments_and_says_so() {
    let sim = Sim::start(&["--old-freeze"]);
    let ran = sim.script("s sc=##class(Backup.General).ExternalFreeze(\"\",\"\",1,,,,600,,,300,.req)\n");
    assert!(ran.out.contains("<PARAMETER>"), "{}", ran.out);
    assert!(!sim.suspended());
    let out = printed(
        &sim,
        &[
            "w \"<<\",##class(%Dictionary.CompiledMethod).%ExistsId(\"Backup.General||ExternalFreeze\"),\">>\"",
            "w \"<<\",##class(%Dictionary.CompiledMethod).%ExistsId(\"Backup.General||IsWDSuspendedExt\"),\">>\"",
            "w \"<<\",##class(%Dictionary.CompiledMethod).%OpenId(\"Backup.General||ExternalFreeze\").FormalSpec[\"WDSuspendLimit\",\">>\"",
            "s sc=##class(Backup.General).ExternalFreeze(\"\",\"\",1,,,,600) w \"<<\",sc,\">>\"",
        ],
    );
    assert_eq!(out, ["1", "0", "0", "1"]);
    assert_eq!(sim.call("##Class(Backup.General).ExternalFreeze(\"\",,,,,,600,,,300)").code, 1, "<PARAMETER>");
    let new = Sim::start(&[]);
    let out = printed(
        &new,
        &[
            "s m=##class(%Dictionary.CompiledMethod).%OpenId(\"Backup.General||ExternalFreeze\") w \"<<\",m.FormalSpec[\"RequiredFile\",\">>\"",
        ],
    );
    assert_eq!(out, ["1"]);
}

#[test]
fn the_instance_tells_its_layout() {
    let sim = Sim::start(&["--mirror-type", "Failover", "--mirror-status", "Primary", "--mirror-name", "MIR", "--split"]);
    let dir = sim.instance().display().to_string();
    let root = sim.root.display().to_string();
    let out = printed(
        &sim,
        &[
            "w \"<<\",$system.Util.ManagerDirectory(),\">>\",\"<<\",$SYSTEM.Util.InstallDirectory(),\">>\"",
            "w \"<<\",##class(%SYS.Journal.System).GetPrimaryDirectory(),\">>\",\"<<\",##class(%SYS.Journal.System).GetAlternateDirectory(),\">>\"",
            "w \"<<\",$SYSTEM.Mirror.IsMember(),$system.Mirror.IsPrimary(),\" \",$SYSTEM.Mirror.MirrorName(),\" \",$SYSTEM.Mirror.GetStatus(),\" \",$SYSTEM.Mirror.GetMemberType(),\">>\"",
            "w \"<<\",$SYSTEM.Monitor.State(),\">>\"",
            "s rs=##class(%ResultSet).%New(\"Config.Databases:List\") d rs.Execute()",
            "while rs.Next() { w \"<<\",rs.Get(\"Name\"),\"=\",rs.Get(\"Directory\"),\">>\" }",
            "s st=##class(%SQL.Statement).%New(),sc=st.%PrepareClassQuery(\"Config.Databases\",\"List\"),rs=st.%Execute() d rs.%Next() w \"<<\",rs.Name,\">>\"",
            "s db=##class(SYS.Database).%OpenId(\"DIR/mgr/irislocaldata/\") w \"<<\",db.GlobalJournalState,\">>\""
                .replace("DIR", &dir)
                .as_str(),
        ],
    );
    assert_eq!(
        out,
        [
            format!("{dir}/mgr/"),
            format!("{dir}/"),
            format!("{root}/iris-journal1/"),
            format!("{root}/iris-journal2/"),
            "11 MIR PRIMARY Failover".into(),
            "0".into(),
            format!("IRISSYS={dir}/mgr/"),
            format!("IRISLOCALDATA={dir}/mgr/irislocaldata/"),
            format!("USER={dir}/mgr/user/"),
            format!("T1={root}/iris-data/t1/"),
            format!("T2={root}/iris-data/t2/"),
            "IRISSYS".into(),
            "0".into(),
        ]
    );
}

#[test]
fn transactions_commit_or_roll_back() {
    let sim = Sim::start(&[]);
    let out = printed(&sim, &["s ^a=1 tstart  s ^a=2 trollback  w \"<<\",^a,\">>\"", "ts  s ^a=3 tc  w \"<<\",^a,\">>\""]);
    assert_eq!(out, ["1", "3"]);
    sim.script("tstart\nset ^a=4\n");
    let out = printed(&sim, &["w \"<<\",^a,\">>\""]);
    assert_eq!(out, ["3"], "a process that ends takes its transaction along");
    sim.iris(&["force", "IRIS"]);
    sim.iris(&["start", "IRIS"]);
    let out = printed(&sim, &["w \"<<\",^a,\">>\""]);
    assert_eq!(out, ["3"]);
}

#[test]
fn other_namespaces_do_not_have_the_backup_class() {
    let sim = Sim::start(&[]);
    let call = common::run(std::process::Command::new(sim.bin("iris")).args([
        "session",
        "IRIS",
        "-U",
        "USER",
        "##Class(Backup.General).ExternalFreeze()",
    ]));
    assert!(call.code != 5 && call.code != 3 && call.out.contains("<CLASS DOES NOT EXIST>"), "{}", call.out);
    let out = printed(&sim, &["zn \"USER\" w \"<<\",$namespace,\">>\" set $namespace=\"%SYS\" w \"<<\",$namespace,\">>\""]);
    assert_eq!(out, ["USER", "%SYS"]);
}

#[test]
fn output_can_follow_the_prompt_on_its_line() {
    let sim = Sim::start(&[]);
    sim.ctl(&["session_echo=0"]);
    assert!(sim.script("w \"here\"\n").out.contains("\n%SYS>here"));
    sim.ctl(&["session_echo=1"]);
    assert!(sim.script("w \"here\"\n").out.contains("\n%SYS>\nhere"));
}

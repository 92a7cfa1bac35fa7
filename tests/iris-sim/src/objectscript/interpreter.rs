//! Runs the commands of a line in a session.

use super::classes::Object;
use super::parser;
use super::syntax::{Arg, Command, Expr, Op, Place, Range, Target, What, WriteItem};
use super::value::{Value, canonical};
use super::{Stop, functions};
use crate::cli;
use crate::config::Config;
use crate::proto::{self, Client, Reply};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::time::Duration;

pub type Eval<T> = Result<T, Stop>;

pub struct Interpreter {
    pub client: Client,
    pub cfg: Config,
    pub namespace: String,
    pub objects: Vec<Object>,
    /// Where the terminal's cursor stands.
    pub column: usize,
    /// `$ZERROR`: the last error.
    pub last_error: String,
    /// `SourceDatabases` of each Journal.Restore object, by its index.
    pub sources: BTreeMap<usize, Vec<String>>,
    variables: BTreeMap<String, Value>,
    test: bool,
}

impl Interpreter {
    pub fn new(client: Client, cfg: Config, namespace: &str) -> Interpreter {
        Interpreter {
            client,
            cfg,
            namespace: namespace.to_uppercase(),
            objects: Vec::new(),
            column: 0,
            last_error: String::new(),
            sources: BTreeMap::new(),
            variables: BTreeMap::new(),
            test: false,
        }
    }

    /// Runs one line as the terminal does.
    pub fn line(&mut self, line: &str) -> Eval<()> {
        match parser::parse(line).and_then(|commands| self.run(&commands)) {
            Err(Stop::Quit) => Ok(()),
            Err(Stop::Error(text)) => {
                self.last_error = text.clone();
                Err(Stop::Error(text))
            }
            done => done,
        }
    }

    pub fn out(&mut self, text: &str) {
        cli::out(text);
        match text.rfind('\n') {
            Some(at) => self.column = text[at + 1..].chars().count(),
            None => self.column += text.chars().count(),
        }
    }

    /// A request to the instance; its output goes to the terminal.
    pub fn ask(&mut self, op: proto::Op) -> Eval<Result<Json, String>> {
        let column = &mut self.column;
        let reply = self.client.call_with(op, &mut |text| {
            cli::out(text);
            *column = if text.ends_with('\n') { 0 } else { *column + text.len() };
        });
        match reply {
            Ok(Reply::Done(value)) => Ok(Ok(value)),
            Ok(Reply::Failed(text)) => Ok(Err(text)),
            Ok(Reply::Exit(_, code)) => Err(Stop::Halt(code)),
            Ok(Reply::Out(_)) => Ok(Ok(Json::Null)),
            // The instance went away under the session.
            Err(_) => Err(Stop::Halt(1)),
        }
    }

    fn run(&mut self, commands: &[Command]) -> Eval<()> {
        for command in commands {
            if let Some(condition) = &command.only_if
                && !self.eval(condition)?.truth()
            {
                continue;
            }
            match &command.what {
                What::If { branches, otherwise } => self.run_if(branches, otherwise)?,
                What::Else(body) => {
                    if !self.test {
                        self.run(body)?;
                    }
                }
                What::For { range, body } => self.run_for(range.as_ref(), body)?,
                What::While { condition, body } => {
                    while self.eval(condition)?.truth() {
                        match self.run(body) {
                            Err(Stop::Quit) => break,
                            other => other?,
                        }
                    }
                }
                What::Try { body, name, catch } => match self.run(body) {
                    Err(Stop::Error(text)) => {
                        self.last_error = text.clone();
                        if let Some(name) = name {
                            self.objects.push(Object::Exception(text));
                            self.variables.insert(name.clone(), Value::Object(self.objects.len() - 1));
                        }
                        self.run(catch)?;
                    }
                    other => other?,
                },
                simple => self.simple(simple)?,
            }
        }
        Ok(())
    }

    fn run_if(&mut self, branches: &[(Expr, Vec<Command>)], otherwise: &[Command]) -> Eval<()> {
        for (condition, body) in branches {
            self.test = self.eval(condition)?.truth();
            if self.test {
                return self.run(body);
            }
        }
        self.run(otherwise)
    }

    fn run_for(&mut self, range: Option<&Range>, body: &[Command]) -> Eval<()> {
        let once = |result: Eval<()>| match result {
            Err(Stop::Quit) => Ok(false),
            other => other.map(|()| true),
        };
        let Some(range) = range else {
            while once(self.run(body))? {}
            return Ok(());
        };
        let mut value = self.eval(&range.start)?.number();
        let step = match &range.step {
            Some(step) => self.eval(step)?.number(),
            None => 0.0,
        };
        let end = match &range.end {
            Some(end) => Some(self.eval(end)?.number()),
            None if range.step.is_none() => Some(value),
            None => None,
        };
        loop {
            let past = end.is_some_and(|end| if step >= 0.0 { value > end } else { value < end });
            if past {
                return Ok(());
            }
            self.put(&range.variable, value.into())?;
            if !once(self.run(body))? || (range.step.is_none()) {
                return Ok(());
            }
            value = self.read(&range.variable)?.number() + step;
        }
    }

    fn simple(&mut self, what: &What) -> Eval<()> {
        match what {
            What::Set(list) => {
                for (targets, expr) in list {
                    let value = self.eval(expr)?;
                    for target in targets {
                        self.assign(target, value.clone())?;
                    }
                }
            }
            What::Write(items) => self.write(items)?,
            What::Do(calls) => {
                for (call, only_if) in calls {
                    let runs = match only_if {
                        Some(condition) => self.eval(condition)?.truth(),
                        None => true,
                    };
                    if runs {
                        self.do_call(call)?;
                    }
                }
            }
            What::Kill(places) if places.is_empty() => self.variables.clear(),
            What::Kill(places) => {
                for place in places {
                    let key = self.key(place)?;
                    if place.global {
                        self.set_global(place, key, None)?;
                    } else {
                        let below = format!("{key}(");
                        let inside = format!("{},", key.trim_end_matches(')'));
                        self.variables.retain(|k, _| *k != key && !k.starts_with(&below) && !k.starts_with(&inside));
                    }
                }
            }
            What::Hang(expr) => {
                let seconds = self.eval(expr)?.number();
                std::thread::sleep(Duration::from_secs_f64(seconds.max(0.0)));
            }
            What::Halt => return Err(Stop::Halt(0)),
            What::Quit => return Err(Stop::Quit),
            What::Namespace(expr) => {
                let name = self.eval(expr)?.text();
                self.change_namespace(&name)?;
            }
            What::TStart => {
                self.done(proto::Op::Begin)?;
            }
            What::TCommit => {
                self.done(proto::Op::Commit)?;
            }
            What::TRollback => {
                self.done(proto::Op::Rollback)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn write(&mut self, items: &[WriteItem]) -> Eval<()> {
        for item in items {
            match item {
                WriteItem::NewLine => self.out("\n"),
                WriteItem::FormFeed => self.out("\u{c}"),
                WriteItem::Column(expr) => {
                    let to = self.eval(expr)?.number() as usize;
                    let pad = to.saturating_sub(self.column);
                    self.out(&" ".repeat(pad));
                }
                WriteItem::Character(expr) => {
                    let code = self.eval(expr)?.number() as u32;
                    self.out(&char::from_u32(code).unwrap_or(' ').to_string());
                }
                WriteItem::Value(expr) => {
                    let text = self.eval(expr)?.text();
                    self.out(&text);
                }
            }
        }
        Ok(())
    }

    /// `do` of something that is no call is an error.
    fn do_call(&mut self, call: &Expr) -> Eval<()> {
        match call {
            Expr::Variable(place) if place.global => Err(Stop::Error(format!("<NOROUTINE> *{}", place.name))),
            Expr::Variable(place) => Err(Stop::Error(format!("<NOLINE> *{}", place.name))),
            other => self.eval(other).map(|_| ()),
        }
    }

    pub fn change_namespace(&mut self, name: &str) -> Eval<()> {
        let upper = name.to_uppercase();
        if upper != "%SYS" && self.cfg.namespace(&upper).is_none() {
            return Err(Stop::Error(format!("<NAMESPACE> *{name}")));
        }
        self.namespace = upper;
        Ok(())
    }

    fn assign(&mut self, target: &Target, value: Value) -> Eval<()> {
        match target {
            Target::Place(place) => self.put(place, value),
            Target::Special(name) if name == "namespace" || name == "znspace" => self.change_namespace(&value.text()),
            Target::Special(name) if name == "ze" || name == "zerror" => {
                self.last_error = value.text();
                Ok(())
            }
            Target::Special(_) => Ok(()),
            Target::Property(object, name) => {
                let object = self.eval(object)?;
                self.set_property(&object, name, value)
            }
        }
    }

    pub fn put(&mut self, place: &Place, value: Value) -> Eval<()> {
        let key = self.key(place)?;
        if place.global {
            self.set_global(place, key, Some(value.text()))
        } else {
            self.variables.insert(key, value);
            Ok(())
        }
    }

    pub fn read(&mut self, place: &Place) -> Eval<Value> {
        let key = self.key(place)?;
        match self.look(place, &key)? {
            Some(value) => Ok(value),
            None => Err(Stop::Error(format!("<UNDEFINED> *{key}"))),
        }
    }

    /// The value of a variable, if it has one.
    pub fn read_maybe(&mut self, place: &Place) -> Eval<Option<Value>> {
        let key = self.key(place)?;
        self.look(place, &key)
    }

    /// Whether something lies below a local variable.
    pub fn has_below(&mut self, place: &Place) -> Eval<bool> {
        let key = self.key(place)?;
        let below = if key.ends_with(')') { format!("{},", key.trim_end_matches(')')) } else { format!("{key}(") };
        Ok(self.variables.keys().any(|k| k.starts_with(&below)))
    }

    fn look(&mut self, place: &Place, key: &str) -> Eval<Option<Value>> {
        if !place.global {
            return Ok(self.variables.get(key).cloned());
        }
        let sfn = self.sfn(place)?;
        let json = self.done(proto::Op::Get { sfn, key: key.to_string() })?;
        Ok(json.as_str().map(Value::from))
    }

    fn set_global(&mut self, place: &Place, key: String, value: Option<String>) -> Eval<()> {
        let sfn = self.sfn(place)?;
        self.done(proto::Op::Set { sfn, key, value }).map(|_| ())
    }

    /// A request whose failure is an ObjectScript error.
    pub fn done(&mut self, op: proto::Op) -> Eval<Json> {
        self.ask(op)?.map_err(Stop::Error)
    }

    /// The database of the namespace's globals, or of the one that an extended reference names: `^^directory` is an implied
    /// namespace ("Using Globals", Extended References).
    fn sfn(&mut self, place: &Place) -> Eval<u16> {
        let Some(at) = &place.at else {
            return Ok(self.cfg.namespace(&self.namespace).map_or(0, |(sfn, _)| sfn));
        };
        let at = self.eval(at)?.text();
        let cfg = crate::config::Config::load(&self.cfg.dir).unwrap_or_else(|_| self.cfg.clone());
        match at.strip_prefix("^^") {
            Some(dir) => cfg.database(dir).map(|(sfn, _)| sfn).ok_or_else(|| Stop::Error(format!("<DIRECTORY> *{dir}"))),
            None => cfg.namespace(&at).map(|(sfn, _)| sfn).ok_or_else(|| Stop::Error(format!("<NAMESPACE> *{at}"))),
        }
    }

    /// `name(1,"a")`, with numbers in canonical form.
    fn key(&mut self, place: &Place) -> Eval<String> {
        let mut key = format!("{}{}", if place.global { "^" } else { "" }, place.name);
        if !place.subscripts.is_empty() {
            let mut parts = Vec::new();
            for subscript in &place.subscripts {
                let text = self.eval(subscript)?.text();
                let number = super::value::numeric(&text);
                let is_number = canonical(number) == text;
                parts.push(if is_number { text } else { format!("\"{text}\"") });
            }
            key += &format!("({})", parts.join(","));
        }
        Ok(key)
    }

    pub fn eval(&mut self, expr: &Expr) -> Eval<Value> {
        Ok(match expr {
            Expr::Text(text) => Value::from(text.as_str()),
            Expr::Number(number) => Value::from(*number),
            Expr::Variable(place) => self.read(place)?,
            Expr::Not(inner) => Value::from(!self.eval(inner)?.truth()),
            Expr::Negative(inner) => Value::from(-self.eval(inner)?.number()),
            Expr::Positive(inner) => Value::from(self.eval(inner)?.number()),
            Expr::Binary(op, left, right) => {
                let left = self.eval(left)?;
                match op {
                    Op::AndThen if !left.truth() => return Ok(Value::from(false)),
                    Op::OrElse if left.truth() => return Ok(Value::from(true)),
                    _ => {}
                }
                let right = self.eval(right)?;
                functions::binary(*op, &left, &right)?
            }
            Expr::Function(name, args) => functions::call(self, name, args)?,
            Expr::Choice { of, pairs } => self.choice(of.as_deref(), pairs)?,
            Expr::Special(name) => functions::special(self, name)?,
            Expr::ClassMethod { class, method, args } => self.class_method(class, method, args)?,
            Expr::System { path, args } => self.system(path, args)?,
            Expr::Member { object, name, args } => {
                let object = self.eval(object)?;
                self.member(&object, name, args.as_deref())?
            }
        })
    }

    fn choice(&mut self, of: Option<&Expr>, pairs: &[(Option<Expr>, Expr)]) -> Eval<Value> {
        let of = match of {
            Some(expr) => Some(self.eval(expr)?),
            None => None,
        };
        for (key, value) in pairs {
            let hit = match (key, &of) {
                (None, _) => true,
                (Some(key), Some(of)) => self.eval(key)?.text() == of.text(),
                (Some(key), None) => self.eval(key)?.truth(),
            };
            if hit {
                return self.eval(value);
            }
        }
        Err(Stop::Error(if of.is_some() { "<ILLEGAL VALUE>" } else { "<SELECT>" }.into()))
    }

    /// Values of arguments; `None` where one is omitted or by reference and not defined.
    pub fn values(&mut self, args: &[Arg]) -> Eval<Vec<Option<Value>>> {
        let mut out = Vec::with_capacity(args.len());
        for arg in args {
            out.push(match arg {
                Arg::Omitted => None,
                Arg::Value(expr) => Some(self.eval(expr)?),
                Arg::ByReference(place) => self.read_maybe(place)?,
            });
        }
        Ok(out)
    }

    /// Gives a by-reference argument its value; another kind of argument drops it.
    pub fn give(&mut self, args: &[Arg], index: usize, value: Value) -> Eval<()> {
        match args.get(index) {
            Some(Arg::ByReference(place)) => self.put(place, value),
            _ => Ok(()),
        }
    }
}

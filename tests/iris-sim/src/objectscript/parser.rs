//! A line of ObjectScript into commands; `<SYNTAX>` if it is none.

use super::Stop;
use super::syntax::{Command, Expr, Op, Range, Target, What, WriteItem};

pub(super) type Parsed<T> = Result<T, Stop>;

/// Reads a whole line.
pub fn parse(line: &str) -> Parsed<Vec<Command>> {
    let mut parser = Parser { chars: line.chars().collect(), at: 0 };
    let commands = parser.commands(false)?;
    if parser.at < parser.chars.len() { Err(Stop::syntax()) } else { Ok(commands) }
}

/// A cursor over a line. [`super::expressions`] has the part that reads expressions.
pub(super) struct Parser {
    pub(super) chars: Vec<char>,
    pub(super) at: usize,
}

impl Parser {
    pub(super) fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    pub(super) fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, c: char) -> Parsed<()> {
        if self.eat(c) { Ok(()) } else { Err(Stop::syntax()) }
    }

    pub(super) fn spaces(&mut self) {
        while self.peek().is_some_and(|c| c == ' ' || c == '\t') {
            self.at += 1;
        }
    }

    pub(super) fn word(&mut self) -> String {
        let from = self.at;
        while self.peek().is_some_and(|c| c.is_alphanumeric()) {
            self.at += 1;
        }
        self.chars[from..self.at].iter().collect()
    }

    fn commands(&mut self, in_block: bool) -> Parsed<Vec<Command>> {
        let mut out = Vec::new();
        loop {
            self.spaces();
            match self.peek() {
                None if in_block => return Err(Stop::syntax()),
                None => return Ok(out),
                Some('}') if in_block => return Ok(out),
                Some(';') => self.at = self.chars.len(),
                Some('/') if self.peek_at(1) == Some('/') => self.at = self.chars.len(),
                Some(_) => out.push(self.command(in_block)?),
            }
        }
    }

    fn block(&mut self) -> Parsed<Vec<Command>> {
        self.spaces();
        self.expect('{')?;
        let body = self.commands(true)?;
        self.expect('}')?;
        Ok(body)
    }

    /// A block, or the rest of the line.
    fn body(&mut self, in_block: bool) -> Parsed<Vec<Command>> {
        self.spaces();
        if self.peek() == Some('{') { self.block() } else { self.commands(in_block) }
    }

    fn command(&mut self, in_block: bool) -> Parsed<Command> {
        let name = self.word().to_lowercase();
        let only_if = if self.eat(':') { Some(self.expr()?) } else { None };
        // Two spaces follow a command without arguments; one the command of a block's end.
        let bare =
            self.peek().is_none_or(|c| c == '}') || (self.peek() == Some(' ') && self.peek_at(1).is_none_or(|c| c == ' ' || c == '}'));
        self.spaces();
        let what = match name.as_str() {
            "s" | "set" => What::Set(self.list(Self::assignment)?),
            "w" | "write" if bare => What::Nothing,
            "w" | "write" => What::Write(self.write_items()?),
            "d" | "do" => What::Do(self.list(Self::call)?),
            "k" | "kill" if bare => What::Kill(Vec::new()),
            "k" | "kill" => What::Kill(self.list(Self::place)?),
            "n" | "new" if bare => What::New,
            "n" | "new" => {
                self.list(Self::place)?;
                What::New
            }
            "h" | "halt" if bare => What::Halt,
            "h" | "hang" => What::Hang(self.expr()?),
            "q" | "quit" | "return" if bare => What::Quit,
            "q" | "quit" | "return" => {
                self.expr()?;
                What::Quit
            }
            "i" | "if" => self.if_command(in_block)?,
            "e" | "else" => What::Else(self.body(in_block)?),
            "f" | "for" => self.for_command(in_block)?,
            "while" => {
                let condition = self.expr()?;
                What::While { condition, body: self.block()? }
            }
            "try" => self.try_command()?,
            "zn" | "znspace" => What::Namespace(self.expr()?),
            "ts" | "tstart" => What::TStart,
            "tc" | "tcommit" => What::TCommit,
            "tro" | "trollback" => What::TRollback,
            _ => return Err(Stop::syntax()),
        };
        Ok(Command { only_if, what })
    }

    pub(super) fn list<T>(&mut self, item: fn(&mut Parser) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut out = vec![item(self)?];
        while self.eat(',') {
            self.spaces();
            out.push(item(self)?);
        }
        Ok(out)
    }

    fn if_command(&mut self, in_block: bool) -> Parsed<What> {
        let condition = self.condition()?;
        self.spaces();
        if self.peek() != Some('{') {
            let body = self.commands(in_block)?;
            return Ok(What::If { branches: vec![(condition, body)], otherwise: Vec::new() });
        }
        let mut branches = vec![(condition, self.block()?)];
        loop {
            let back = self.at;
            self.spaces();
            match self.word().to_lowercase().as_str() {
                "elseif" => {
                    self.spaces();
                    let condition = self.condition()?;
                    branches.push((condition, self.block()?));
                }
                "else" => {
                    return Ok(What::If { branches, otherwise: self.block()? });
                }
                _ => {
                    self.at = back;
                    return Ok(What::If { branches, otherwise: Vec::new() });
                }
            }
        }
    }

    /// `if a,b` is both.
    fn condition(&mut self) -> Parsed<Expr> {
        let mut all = self.expr()?;
        while self.eat(',') {
            self.spaces();
            let next = self.expr()?;
            all = Expr::Binary(Op::AndThen, Box::new(all), Box::new(next));
        }
        Ok(all)
    }

    fn for_command(&mut self, in_block: bool) -> Parsed<What> {
        if self.peek() == Some('{') {
            return Ok(What::For { range: None, body: self.block()? });
        }
        let back = self.at;
        let range = match self.range() {
            Ok(range) => Some(range),
            Err(_) => {
                self.at = back;
                None
            }
        };
        Ok(What::For { range, body: self.body(in_block)? })
    }

    fn range(&mut self) -> Parsed<Range> {
        let variable = self.place()?;
        self.expect('=')?;
        let start = self.expr()?;
        let step = if self.eat(':') { Some(self.expr()?) } else { None };
        let end = if self.eat(':') { Some(self.expr()?) } else { None };
        Ok(Range { variable, start, step, end })
    }

    fn try_command(&mut self) -> Parsed<What> {
        let body = self.block()?;
        self.spaces();
        if self.word().to_lowercase() != "catch" {
            return Err(Stop::syntax());
        }
        self.spaces();
        let parens = self.eat('(');
        let name = Some(self.word()).filter(|w| !w.is_empty());
        if parens {
            self.expect(')')?;
        }
        Ok(What::Try { body, name, catch: self.block()? })
    }

    fn assignment(&mut self) -> Parsed<(Vec<Target>, Expr)> {
        let targets = if self.eat('(') {
            let targets = self.list(Self::target)?;
            self.expect(')')?;
            targets
        } else {
            vec![self.target()?]
        };
        self.spaces();
        self.expect('=')?;
        self.spaces();
        Ok((targets, self.expr()?))
    }

    fn target(&mut self) -> Parsed<Target> {
        if self.eat('$') {
            return Ok(Target::Special(self.word().to_lowercase()));
        }
        let place = self.place()?;
        if self.peek() != Some('.') {
            return Ok(Target::Place(place));
        }
        let mut object = Expr::Variable(place);
        loop {
            self.expect('.')?;
            let name = self.word();
            if self.peek() != Some('.') {
                return Ok(Target::Property(object, name));
            }
            object = Expr::Member { object: Box::new(object), name, args: None };
        }
    }

    fn call(&mut self) -> Parsed<(Expr, Option<Expr>)> {
        let call = self.operand()?;
        let only_if = if self.eat(':') { Some(self.expr()?) } else { None };
        Ok((call, only_if))
    }

    fn write_items(&mut self) -> Parsed<Vec<WriteItem>> {
        let mut out = Vec::new();
        loop {
            match self.peek() {
                Some('!') => {
                    self.at += 1;
                    out.push(WriteItem::NewLine);
                }
                Some('#') if self.peek_at(1) != Some('#') => {
                    self.at += 1;
                    out.push(WriteItem::FormFeed);
                }
                Some('?') => {
                    self.at += 1;
                    out.push(WriteItem::Column(self.expr()?));
                }
                Some('*') => {
                    self.at += 1;
                    out.push(WriteItem::Character(self.expr()?));
                }
                _ => out.push(WriteItem::Value(self.expr()?)),
            }
            // `!!` and `!?5` need no comma.
            if self.peek().is_some_and(|c| "!?".contains(c)) {
                continue;
            }
            if !self.eat(',') {
                return Ok(out);
            }
            self.spaces();
        }
    }
}

//! A line of ObjectScript into commands; `<SYNTAX>` if it is none.

use super::Stop;
use super::syntax::{Arg, Command, Expr, Op, Place, Range, Target, What, WriteItem};

type Parsed<T> = Result<T, Stop>;

/// Reads a whole line.
pub fn parse(line: &str) -> Parsed<Vec<Command>> {
    let mut parser = Parser { chars: line.chars().collect(), at: 0 };
    let commands = parser.commands(false)?;
    if parser.at < parser.chars.len() { Err(Stop::syntax()) } else { Ok(commands) }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn peek_at(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, c: char) -> Parsed<()> {
        if self.eat(c) { Ok(()) } else { Err(Stop::syntax()) }
    }

    fn spaces(&mut self) {
        while self.peek().is_some_and(|c| c == ' ' || c == '\t') {
            self.at += 1;
        }
    }

    fn word(&mut self) -> String {
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
        let bare = self.peek().is_none_or(|c| c == '}') || (self.peek() == Some(' ') && self.peek_at(1).is_none_or(|c| c == ' ' || c == '}'));
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

    fn list<T>(&mut self, item: fn(&mut Parser) -> Parsed<T>) -> Parsed<Vec<T>> {
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
                "else" => return Ok(What::If { branches, otherwise: self.block()? }),
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

    fn place(&mut self) -> Parsed<Place> {
        let global = self.eat('^');
        let from = self.at;
        self.eat('%');
        while self.peek().is_some_and(|c| c.is_alphanumeric() || (global && c == '.')) {
            self.at += 1;
        }
        let name: String = self.chars[from..self.at].iter().collect();
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(Stop::syntax());
        }
        let subscripts = if self.eat('(') {
            let list = self.list(Self::expr)?;
            self.expect(')')?;
            list
        } else {
            Vec::new()
        };
        Ok(Place { global, name, subscripts })
    }

    pub fn expr(&mut self) -> Parsed<Expr> {
        let mut left = self.operand()?;
        loop {
            let back = self.at;
            // A space ends an expression unless an operator stands alone between spaces.
            self.spaces();
            let spaced = self.at > back;
            let Some((op, len)) = self.operator() else {
                self.at = back;
                return Ok(left);
            };
            if spaced && !self.chars.get(self.at + len).is_some_and(|c| *c == ' ') {
                self.at = back;
                return Ok(left);
            }
            self.at += len;
            self.spaces();
            let right = self.operand()?;
            left = Expr::Binary(op, Box::new(left), Box::new(right));
        }
    }

    fn operator(&self) -> Option<(Op, usize)> {
        let two = self.peek_at(1);
        Some(match self.peek()? {
            '\'' => match two? {
                '=' => (Op::NotEquals, 2),
                '<' => (Op::NotLess, 2),
                '>' => (Op::NotGreater, 2),
                '[' => (Op::NotContains, 2),
                _ => return None,
            },
            '&' if two == Some('&') => (Op::AndThen, 2),
            '&' => (Op::And, 1),
            '|' if two == Some('|') => (Op::OrElse, 2),
            '!' => (Op::Or, 1),
            '=' => (Op::Equals, 1),
            '<' if two == Some('=') => (Op::NotGreater, 2),
            '>' if two == Some('=') => (Op::NotLess, 2),
            '<' => (Op::Less, 1),
            '>' => (Op::Greater, 1),
            '+' => (Op::Add, 1),
            '-' => (Op::Subtract, 1),
            '*' => (Op::Multiply, 1),
            '/' => (Op::Divide, 1),
            '\\' => (Op::IntegerDivide, 1),
            '#' => (Op::Modulo, 1),
            '_' => (Op::Concat, 1),
            '[' => (Op::Contains, 1),
            ']' => (Op::Follows, 1),
            '?' => (Op::Matches, 1),
            _ => return None,
        })
    }

    fn operand(&mut self) -> Parsed<Expr> {
        let mut value = match self.peek().ok_or_else(Stop::syntax)? {
            '\'' => {
                self.at += 1;
                return Ok(Expr::Not(Box::new(self.operand()?)));
            }
            '-' => {
                self.at += 1;
                return Ok(Expr::Negative(Box::new(self.operand()?)));
            }
            '+' => {
                self.at += 1;
                return Ok(Expr::Positive(Box::new(self.operand()?)));
            }
            '"' => Expr::Text(self.string()?),
            '(' => {
                self.at += 1;
                self.spaces();
                let inner = self.expr()?;
                self.spaces();
                self.expect(')')?;
                inner
            }
            '0'..='9' | '.' => return self.number(),
            '#' => self.class_method()?,
            '$' => self.dollar()?,
            _ => Expr::Variable(self.place()?),
        };
        while self.peek() == Some('.') && self.peek_at(1).is_some_and(|c| c.is_alphabetic() || c == '%') {
            self.at += 1;
            let name = self.member_name();
            let args = if self.peek() == Some('(') { Some(self.args()?) } else { None };
            value = Expr::Member { object: Box::new(value), name, args };
        }
        Ok(value)
    }

    fn member_name(&mut self) -> String {
        let percent = self.eat('%');
        let word = self.word();
        if percent { format!("%{word}") } else { word }
    }

    fn string(&mut self) -> Parsed<String> {
        self.expect('"')?;
        let mut out = String::new();
        loop {
            let c = self.peek().ok_or_else(Stop::syntax)?;
            self.at += 1;
            if c != '"' {
                out.push(c);
            } else if self.eat('"') {
                out.push('"');
            } else {
                return Ok(out);
            }
        }
    }

    fn number(&mut self) -> Parsed<Expr> {
        let from = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit() || c == '.') {
            self.at += 1;
        }
        let text: String = self.chars[from..self.at].iter().collect();
        format!("0{text}").parse().map(Expr::Number).map_err(|_| Stop::syntax())
    }

    fn class_method(&mut self) -> Parsed<Expr> {
        self.expect('#')?;
        self.expect('#')?;
        if self.word().to_lowercase() != "class" {
            return Err(Stop::syntax());
        }
        self.expect('(')?;
        let from = self.at;
        while self.peek().is_some_and(|c| c != ')') {
            self.at += 1;
        }
        let class = self.chars[from..self.at].iter().collect::<String>().trim().trim_matches('"').to_string();
        self.expect(')')?;
        self.expect('.')?;
        let method = self.member_name();
        let args = self.args()?;
        Ok(Expr::ClassMethod { class, method, args })
    }

    fn args(&mut self) -> Parsed<Vec<Arg>> {
        self.expect('(')?;
        self.spaces();
        if self.eat(')') {
            return Ok(Vec::new());
        }
        let mut out = Vec::new();
        loop {
            self.spaces();
            out.push(match self.peek() {
                Some(',' | ')') => Arg::Omitted,
                Some('.') if self.peek_at(1).is_some_and(|c| c.is_alphabetic() || c == '%' || c == '^') => {
                    self.at += 1;
                    Arg::ByReference(self.place()?)
                }
                _ => Arg::Value(self.expr()?),
            });
            self.spaces();
            if self.eat(')') {
                return Ok(out);
            }
            self.expect(',')?;
        }
    }

    fn dollar(&mut self) -> Parsed<Expr> {
        self.expect('$')?;
        let name = self.word().to_lowercase();
        if name == "system" {
            let mut path = Vec::new();
            while self.eat('.') {
                path.push(self.member_name());
            }
            let args = if self.peek() == Some('(') { self.args()? } else { Vec::new() };
            return Ok(Expr::System { path, args });
        }
        if self.peek() != Some('(') {
            return Ok(Expr::Special(name));
        }
        self.expect('(')?;
        match name.as_str() {
            "s" | "select" => {
                let pairs = self.list(|p| p.pair(true))?;
                self.expect(')')?;
                Ok(Expr::Choice { of: None, pairs })
            }
            "case" => {
                let of = Some(Box::new(self.expr()?));
                self.expect(',')?;
                let pairs = self.list(|p| p.pair(false))?;
                self.expect(')')?;
                Ok(Expr::Choice { of, pairs })
            }
            _ => {
                self.spaces();
                if self.eat(')') {
                    return Ok(Expr::Function(name, Vec::new()));
                }
                let args = self.list(Self::expr)?;
                self.spaces();
                self.expect(')')?;
                Ok(Expr::Function(name, args))
            }
        }
    }

    fn pair(&mut self, must: bool) -> Parsed<(Option<Expr>, Expr)> {
        let key = if !must && self.peek() == Some(':') { None } else { Some(self.expr()?) };
        self.expect(':')?;
        self.spaces();
        Ok((key, self.expr()?))
    }
}

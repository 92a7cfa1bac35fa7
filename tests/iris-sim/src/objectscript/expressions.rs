//! Expressions: operands, operators from left to right, calls and their arguments.

use super::Stop;
use super::parser::{Parsed, Parser};
use super::syntax::{Arg, Expr, Op, Place};

impl Parser {
    pub(super) fn place(&mut self) -> Parsed<Place> {
        let global = self.eat('^');
        let at = if global && self.eat('|') {
            let at = self.expr()?;
            self.expect('|')?;
            Some(Box::new(at))
        } else {
            None
        };
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
        Ok(Place { global, at, name, subscripts })
    }

    pub(super) fn expr(&mut self) -> Parsed<Expr> {
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
            if spaced && self.chars.get(self.at + len).is_none_or(|c| *c != ' ') {
                self.at = back;
                return Ok(left);
            }
            self.at += len;
            self.spaces();
            let right = if op == Op::Matches { Expr::Text(self.pattern()?) } else { self.operand()? };
            left = Expr::Binary(op, Box::new(left), Box::new(right));
        }
    }

    /// The raw text of a pattern such as `8N1"."3N`.
    fn pattern(&mut self) -> Parsed<String> {
        let from = self.at;
        while let Some(c) = self.peek().filter(|c| c.is_ascii_alphanumeric() || *c == '.' || *c == '"') {
            if c == '"' {
                self.string()?;
            } else {
                self.at += 1;
            }
        }
        if self.at == from { Err(Stop::syntax()) } else { Ok(self.chars[from..self.at].iter().collect()) }
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

    pub(super) fn operand(&mut self) -> Parsed<Expr> {
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

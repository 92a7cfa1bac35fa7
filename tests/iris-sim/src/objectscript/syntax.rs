//! What a line of ObjectScript consists of.

#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    Text(String),
    Number(f64),
    Variable(Place),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    /// Operators bind from left to right, without precedence.
    Binary(Op, Box<Expr>, Box<Expr>),
    /// `$piece(...)`: the lower-case name without `$`.
    Function(String, Vec<Expr>),
    /// `$select(a:b,...)` and `$case(x,a:b,:c)`.
    Choice {
        of: Option<Box<Expr>>,
        pairs: Vec<(Option<Expr>, Expr)>,
    },
    Special(String),
    /// `##class(Name).Method(...)`.
    ClassMethod {
        class: String,
        method: String,
        args: Vec<Arg>,
    },
    /// `$system.Status.IsError(sc)`.
    System {
        path: Vec<String>,
        args: Vec<Arg>,
    },
    /// `object.Property` or `object.Method(...)`.
    Member {
        object: Box<Expr>,
        name: String,
        args: Option<Vec<Arg>>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Equals,
    Less,
    Greater,
    NotEquals,
    NotLess,
    NotGreater,
    And,
    AndThen,
    Or,
    OrElse,
    Add,
    Subtract,
    Multiply,
    Divide,
    IntegerDivide,
    Modulo,
    Concat,
    Contains,
    Follows,
    NotContains,
    Matches,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub global: bool,
    /// Of an extended reference `^|"…"|name`: a namespace, or `^^directory`.
    pub at: Option<Box<Expr>>,
    pub name: String,
    pub subscripts: Vec<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    Omitted,
    Value(Expr),
    ByReference(Place),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    Place(Place),
    Special(String),
    Property(Expr, String),
}

#[derive(Debug, Clone, PartialEq)]
pub enum WriteItem {
    NewLine,
    FormFeed,
    Column(Expr),
    Character(Expr),
    Value(Expr),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// `set:condition`.
    pub only_if: Option<Expr>,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub enum What {
    Set(Vec<(Vec<Target>, Expr)>),
    Write(Vec<WriteItem>),
    Do(Vec<(Expr, Option<Expr>)>),
    Kill(Vec<Place>),
    New,
    Hang(Expr),
    Halt,
    Quit,
    If {
        branches: Vec<(Expr, Vec<Command>)>,
        otherwise: Vec<Command>,
    },
    /// The old one-line `else`: runs if the last `if` was false.
    Else(Vec<Command>),
    For {
        range: Option<Range>,
        body: Vec<Command>,
    },
    While {
        condition: Expr,
        body: Vec<Command>,
    },
    Try {
        body: Vec<Command>,
        name: Option<String>,
        catch: Vec<Command>,
    },
    Namespace(Expr),
    TStart,
    TCommit,
    TRollback,
    Nothing,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    pub variable: Place,
    pub start: Expr,
    pub step: Option<Expr>,
    pub end: Option<Expr>,
}

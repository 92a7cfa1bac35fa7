//! The pattern match operator: `text?8N1"."3N`.

/// One atom: how often, and what.
struct Atom {
    least: usize,
    most: usize,
    what: What,
}

enum What {
    /// Letters of classes: N digit, A letter, U upper, L lower, P punctuation, C control, E any.
    Classes(String),
    Text(Vec<char>),
}

/// Whether the whole text is as the pattern says; a bad pattern matches nothing.
pub fn matches(text: &str, pattern: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    atoms(pattern).is_some_and(|atoms| fits(&chars, &atoms))
}

fn atoms(pattern: &str) -> Option<Vec<Atom>> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut at = 0;
    let mut out = Vec::new();
    while at < chars.len() {
        let count: String = chars[at..].iter().take_while(|c| c.is_ascii_digit() || **c == '.').collect();
        at += count.len();
        let (least, most) = match count.split_once('.') {
            Some((least, most)) => (least.parse().unwrap_or(0), most.parse().unwrap_or(usize::MAX)),
            None => (count.parse().ok()?, count.parse().ok()?),
        };
        let what = if chars.get(at) == Some(&'"') {
            let text: Vec<char> = chars[at + 1..].iter().take_while(|c| **c != '"').copied().collect();
            at += text.len() + 2;
            What::Text(text)
        } else {
            let classes: String = chars[at..].iter().take_while(|c| c.is_ascii_alphabetic()).collect();
            at += classes.len();
            What::Classes(classes.to_uppercase())
        };
        if matches!(&what, What::Classes(c) if c.is_empty()) || matches!(&what, What::Text(t) if t.is_empty()) {
            return None;
        }
        out.push(Atom { least, most, what });
    }
    Some(out)
}

fn fits(text: &[char], atoms: &[Atom]) -> bool {
    let Some((atom, rest)) = atoms.split_first() else {
        return text.is_empty();
    };
    let mut at = 0;
    let mut count = 0;
    loop {
        if count >= atom.least && fits(&text[at..], rest) {
            return true;
        }
        let step = match &atom.what {
            What::Classes(classes) => usize::from(text.get(at).is_some_and(|c| in_classes(*c, classes))),
            What::Text(part) => {
                if text[at..].starts_with(part) {
                    part.len()
                } else {
                    0
                }
            }
        };
        if step == 0 || count == atom.most {
            return false;
        }
        at += step;
        count += 1;
    }
}

fn in_classes(c: char, classes: &str) -> bool {
    classes.chars().any(|class| match class {
        'N' => c.is_ascii_digit(),
        'A' => c.is_alphabetic(),
        'U' => c.is_uppercase(),
        'L' => c.is_lowercase(),
        'P' => c.is_ascii_punctuation() || c == ' ',
        'C' => c.is_control(),
        'E' => true,
        _ => false,
    })
}

//! Decides who is spoken to in plain text, and who encrypted.
//!
//! If both will do, an address is dialled in plain text first: nearly all answer to that, and it
//! costs the least. One that hangs up instead is dialled again at once, encrypted; what it answers
//! to is remembered. Who refused both begins anew, after the pause that failures have. As soon as
//! most of those who answered did so only encrypted, whoever is unknown is dialled encrypted first.

use crate::policy::conversation::SessionEnd;

/// What the user wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Encryption {
    /// Each peer is spoken to as it answers.
    #[default]
    Prefer,
    /// Peers are spoken to encrypted or not at all.
    Require,
    /// Nobody is spoken to encrypted.
    Off,
}

impl Encryption {
    /// Whether a peer may be spoken to like this.
    pub fn allows(self, wire: Wire) -> bool {
        match self {
            Self::Prefer => true,
            Self::Require => wire == Wire::Encrypted,
            Self::Off => wire == Wire::Plain,
        }
    }
}

/// How a peer is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wire {
    /// In plain text.
    #[default]
    Plain,
    /// Encrypted (MSE).
    Encrypted,
}

impl Wire {
    fn other(self) -> Self {
        match self {
            Self::Plain => Self::Encrypted,
            Self::Encrypted => Self::Plain,
        }
    }
}

/// What the addresses of a swarm answered to.
#[derive(Debug, Default)]
pub struct Experience {
    encryption: Encryption,
    plain: usize,
    only_encrypted: usize,
}

impl Experience {
    /// Nothing is known yet.
    pub fn new(encryption: Encryption) -> Self {
        Self { encryption, plain: 0, only_encrypted: 0 }
    }

    /// How somebody is dialled of whom nothing is known.
    fn first(&self) -> Wire {
        if self.only_encrypted > self.plain { Wire::Encrypted } else { Wire::Plain }
    }

    /// Somebody new answered, maybe only when it was dialled in another way than before.
    fn learn(&mut self, wire: Wire, refused_other: bool) {
        match wire {
            Wire::Plain => self.plain += 1,
            Wire::Encrypted if refused_other => self.only_encrypted += 1,
            // It may well answer in plain text, too.
            Wire::Encrypted => {}
        }
    }
}

/// What one address answers to.
#[derive(Debug, Default)]
pub struct Manners {
    dialled: Wire,
    answers: Option<Wire>,
    /// It did not answer to this, and the other way was not tried since.
    refused: Option<Wire>,
}

impl Manners {
    /// How it is dialled now.
    pub fn dial(&mut self, experience: &Experience) -> Wire {
        let known = self.refused.map(Wire::other).or(self.answers);
        self.dialled = match experience.encryption {
            Encryption::Prefer => known.unwrap_or_else(|| experience.first()),
            Encryption::Require => Wire::Encrypted,
            Encryption::Off => Wire::Plain,
        };
        self.dialled
    }

    /// How it was dialled last.
    pub fn dialled(&self) -> Wire {
        self.dialled
    }

    /// What became of that. True if it is to be dialled again at once, in the other way.
    pub fn on_end(
        &mut self,
        answered: bool,
        end: &SessionEnd,
        experience: &mut Experience,
    ) -> bool {
        let refused = self.refused.take();
        if answered {
            if self.answers.replace(self.dialled).is_none() {
                experience.learn(self.dialled, refused.is_some());
            }
            return false;
        }
        let hung_up = matches!(end, SessionEnd::Closed | SessionEnd::Lost(_));
        let refuses = hung_up || *end == SessionEnd::Silent;
        if !refuses || experience.encryption != Encryption::Prefer {
            self.refused = refused;
            return false;
        }
        if refused.is_none() {
            self.refused = Some(self.dialled);
        }
        // Silence may be the network's.
        hung_up && refused.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SessionEnd::{Closed, Silent};
    use Wire::{Encrypted, Plain};

    const RESET: SessionEnd = SessionEnd::Lost(std::io::ErrorKind::ConnectionReset);
    const DEAD: SessionEnd = SessionEnd::Unreachable(std::io::ErrorKind::TimedOut);

    /// Dials it until there is no reason to do so at once. How it was dialled.
    fn round(
        manners: &mut Manners,
        experience: &mut Experience,
        answers: impl Fn(Wire) -> Result<(), SessionEnd>,
    ) -> Vec<Wire> {
        let mut dialled = Vec::new();
        loop {
            let wire = manners.dial(experience);
            assert_eq!(manners.dialled(), wire);
            dialled.push(wire);
            let answer = answers(wire);
            let (answered, end) = (answer.is_ok(), answer.err().unwrap_or(Closed));
            if !manners.on_end(answered, &end, experience) {
                return dialled;
            }
            assert!(dialled.len() < 3, "without end: {dialled:?}");
        }
    }

    fn encrypted_only(wire: Wire) -> Result<(), SessionEnd> {
        if wire == Encrypted { Ok(()) } else { Err(Closed) }
    }

    fn plain_only(wire: Wire) -> Result<(), SessionEnd> {
        if wire == Plain { Ok(()) } else { Err(RESET) }
    }

    #[test]
    fn who_refuses_one_way_is_dialled_the_other_way_at_once_and_that_is_remembered() {
        let mut experience = Experience::new(Encryption::Prefer);
        let mut manners = Manners::default();
        let mut rounds = |answers: &dyn Fn(Wire) -> Result<(), SessionEnd>| {
            [(); 2].map(|()| round(&mut manners, &mut experience, answers))
        };
        assert_eq!(rounds(&encrypted_only), [vec![Plain, Encrypted], vec![Encrypted]]);
        assert_eq!(rounds(&plain_only), [vec![Encrypted, Plain], vec![Plain]], "it changed");
        assert_eq!(rounds(&|_| Err(Closed)), [vec![Plain, Encrypted], vec![Plain, Encrypted]]);
        assert_eq!(rounds(&|_| Err(RESET))[0], [Plain, Encrypted]);
        assert_eq!(rounds(&|_| Err(Silent)), [vec![Plain], vec![Encrypted]], "not at once");
        assert_eq!(rounds(&|_| Err(DEAD)), [vec![Plain], vec![Plain]], "it heard nothing");
        assert_eq!(rounds(&|_| Err(SessionEnd::Double)), [vec![Plain], vec![Plain]]);
    }

    #[test]
    fn a_swarm_that_answers_only_encrypted_is_dialled_so_first() {
        let mut experience = Experience::new(Encryption::Prefer);
        let mut meet = |answers: fn(Wire) -> _| {
            let mut manners = Manners::default();
            round(&mut manners, &mut experience, answers);
            // Who is known teaches nothing new.
            round(&mut manners, &mut experience, answers);
            experience.first()
        };
        assert_eq!(meet(encrypted_only), Encrypted);
        assert_eq!(meet(|_| Ok(())), Encrypted, "it might have answered in plain text");
        assert_eq!(meet(|_| Err(Closed)), Encrypted);
        assert_eq!(meet(plain_only), Plain, "half of them do");
        assert_eq!(meet(encrypted_only), Encrypted);
        assert_eq!(meet(plain_only), Plain);
        assert_eq!(meet(|_| Ok(())), Plain);
        assert_eq!(meet(encrypted_only), Plain);
    }

    #[test]
    fn what_the_user_wants_is_never_given_up() {
        for (encryption, only) in [(Encryption::Require, Encrypted), (Encryption::Off, Plain)] {
            let mut experience = Experience::new(encryption);
            let mut manners = Manners::default();
            for answers in [plain_only, encrypted_only, |_| Err(Closed), |_| Err(Silent)] {
                assert_eq!(round(&mut manners, &mut experience, answers), [only]);
            }
            assert!(encryption.allows(only) && !encryption.allows(only.other()));
        }
        assert!([Plain, Encrypted].iter().all(|wire| Encryption::Prefer.allows(*wire)));
    }
}

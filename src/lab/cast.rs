//! Who sits at the table. Names and parts follow from the plan and its number alone.

use super::Plan;

/// What a member of the swarm is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabRole {
    /// Has the book and gives it.
    Seed,
    /// Wants the book, gives what it has.
    Leecher,
    /// Wants the book and gives next to nothing.
    FreeRider,
    /// Wants the book and vanishes when it has half of it.
    Leaver,
    /// Says that it has the book, and sends wrong bytes.
    Liar,
}

impl LabRole {
    /// In words: `seed`, `free rider`.
    pub fn name(self) -> &'static str {
        match self {
            LabRole::Seed => "seed",
            LabRole::Leecher => "leecher",
            LabRole::FreeRider => "free rider",
            LabRole::Leaver => "leaver",
            LabRole::Liar => "liar",
        }
    }

    /// Whether it begins without a page.
    pub fn wants(self) -> bool {
        matches!(
            self,
            LabRole::Leecher | LabRole::FreeRider | LabRole::Leaver
        )
    }
}

/// One place at the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CastPart {
    /// Unlike all others at the table.
    pub name: String,
    /// One letter, unlike all others but for several seeds (`*`) and liars (`!`).
    pub letter: char,
    /// What it is there for.
    pub role: LabRole,
}

/// Leechers at a table at most: each has two letters of the alphabet to itself.
pub const PEERS_MAX: usize = 50;
/// Seeds at most, and liars.
pub const SEEDS_MAX: usize = 16;

const NAMES: [&str; 25] = [
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jana", "Kai", "Lena",
    "Milo", "Nora", "Otto", "Pia", "Quin", "Rosa", "Sven", "Tara", "Uma", "Vito", "Wim", "Xenia",
    "Yara",
];

/// The seeds, the leechers in the order of their letters, the liars. Who rides and who leaves is a
/// matter of the dice.
pub fn of(plan: &Plan, dice: &mut fastrand::Rng) -> Vec<CastPart> {
    let numbered = |name: &str, number: usize| match number {
        0 => name.to_owned(),
        _ => format!("{name} {}", number + 1),
    };
    let some = |name: &'static str, letter, role, count| {
        (0..count).map(move |number| CastPart {
            name: numbered(name, number),
            letter,
            role,
        })
    };
    let mut roles = vec![LabRole::Leecher; plan.peers];
    let special = [
        (LabRole::FreeRider, plan.free_riders),
        (LabRole::Leaver, plan.leave),
    ];
    let special = special
        .into_iter()
        .flat_map(|(role, count)| std::iter::repeat_n(role, count));
    for (place, role) in roles.iter_mut().zip(special) {
        *place = role;
    }
    dice.shuffle(&mut roles);
    let leechers = roles.into_iter().enumerate().map(|(number, role)| {
        let name = NAMES[number % NAMES.len()];
        let letter = name.chars().next().unwrap_or('?');
        let second = number >= NAMES.len();
        CastPart {
            name: numbered(name, number / NAMES.len()),
            letter: if second {
                letter.to_ascii_lowercase()
            } else {
                letter
            },
            role,
        }
    });
    some("Seed", '*', LabRole::Seed, plan.seeds)
        .chain(leechers)
        .chain(some("Liar", '!', LabRole::Liar, plan.liars))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_same_number_gives_the_same_cast_and_everybody_a_name() {
        let plan = Plan {
            peers: PEERS_MAX,
            seeds: 2,
            free_riders: 9,
            leave: 8,
            liars: 3,
            ..Plan::default()
        };
        let cast = |number| of(&plan, &mut fastrand::Rng::with_seed(number));
        assert_eq!(cast(4), cast(4));
        assert!(cast(4) != cast(5));
        let count = |role| cast(4).iter().filter(|part| part.role == role).count();
        assert_eq!(count(LabRole::Seed), 2);
        assert_eq!(count(LabRole::FreeRider), 9);
        assert_eq!(count(LabRole::Leaver), 8);
        assert_eq!(count(LabRole::Leecher), 33);
        assert_eq!(count(LabRole::Liar), 3);
        let names: BTreeSet<_> = cast(4).into_iter().map(|part| part.name).collect();
        assert_eq!(names.len(), 55);
        let letters = cast(4).into_iter().filter(|part| part.role.wants());
        assert_eq!(
            letters.map(|it| it.letter).collect::<BTreeSet<_>>().len(),
            50
        );
    }
}

//! Enums that cross the boundary as text.

/// An enum whose variants have a text on the boundary; in Python the type is a `Literal` of these texts.
pub trait Literal: Copy + 'static {
    /// The name of the Python type.
    const NAME: &'static str;
    /// All variants, in the order of the Python type.
    const ALL: &'static [Self];

    /// The text on the boundary.
    fn as_str(self) -> &'static str;

    /// The variant of a text.
    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.as_str() == text)
    }
}

/// Define an enum together with its texts, so that none of them can be forgotten.
macro_rules! literal {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $text:literal, )+
        }
    ) => {
        $(#[$meta])*
        $visibility enum $name {
            $( $(#[$variant_meta])* $variant, )+
        }

        impl $crate::literal::Literal for $name {
            const NAME: &'static str = stringify!($name);
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $text, )+
                }
            }
        }
    };
}
pub(crate) use literal;

//! `Debug` for what carries a job's body: it shows the fields that name the job and how long the body is.
//! A derived one would put the code and the number into the first log line or panic that prints it.

/// Implements `Debug` for a type with a `body`, showing these of its fields.
macro_rules! debug_without_body {
    ($type:ty { $($field:ident),* $(,)? }) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type))
                    $(.field(stringify!($field), &self.$field))*
                    .field("body", &format_args!("{} bytes", self.body.len()))
                    .finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use debug_without_body;

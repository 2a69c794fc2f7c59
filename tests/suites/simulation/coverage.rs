//! What happened, counted. A simulation that stops doing something must say so.

use std::fmt;

macro_rules! coverage {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often each thing happened.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub(crate) struct Coverage {
            $($(#[$doc])* pub(crate) $name: u64,)*
        }

        impl Coverage {
            /// Every count with its name.
            fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }

            /// Adds another run's.
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

coverage! {
    /// Ticks queued, events among them.
    ticks,
    /// Events queued.
    events,
    /// Ticks found in the store at the end, events among them.
    stored,
    /// Events found in the store at the end.
    events_stored,
    /// Ticks that are not there, all of them accounted for.
    missing,
    /// Frames that senders and spools counted as dropped.
    dropped,
    /// Frames that a spool dropped.
    dropped_by_spool,
    /// Frames in memory when a process died.
    in_memory_at_death,
    /// Acks that agents received.
    acks,
    /// Connections that were welcomed after an agent's first one.
    reconnects,
    /// Connections that went on in the middle of a chain.
    resumed_mid_chain,
    /// Chains begun after the first of an epoch.
    new_chains,
    /// Frames that had been accepted before.
    duplicates,
    /// Frames of a connection that a newer one had replaced.
    old_sessions,
    /// Frames sent that had been on disk.
    from_spool,
    /// Starts of an agent that found frames on disk.
    spools_reopened,
    /// Times that a spool was seen with more than a segment's bytes.
    spools_of_segments,
    /// Bytes cut off the end of spool files.
    spool_torn_bytes,
    /// Torn tails that the collector cut off its log.
    torn_tails,
    /// Heads sealed into blocks.
    seals,
    /// Seals that failed or were cut.
    seals_failed,
    /// Commits that the disk refused.
    commits_refused,
    /// Frames that waited because too much was not yet durable.
    store_full,
    /// Acks that came to a connection that had not sent that far.
    acks_ahead,
    /// Kills and power cuts of the collector.
    collector_deaths,
    /// Power cuts right after an ack.
    cuts_after_ack,
    /// Kills and power cuts of agents.
    agent_deaths,
    /// Clean stops of agents.
    agent_stops,
    /// Epochs begun anew because the collector knew later ones.
    renumbered,
    /// Partitions.
    partitions,
    /// Clock steps.
    clock_steps,
}

impl Coverage {
    /// What never happened.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        self.counts().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, count)) in self.counts().enumerate() {
            write!(f, "{}{} {count}", if i == 0 { "" } else { ", " }, name.replace('_', " "))?;
        }
        Ok(())
    }
}

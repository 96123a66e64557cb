//! What a lane and an operator may rely on, whichever queue is behind it: one set of promises, kept
//! by the SQLite file and by a real RabbitMQ. A promise is a plain async function over a [`Ground`];
//! a backend that has an excuse for one of them is not a backend.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod deliveries;
mod ground;
mod letters;
mod settling;
mod telling;
mod topology;

use ground::Ground;

/// Every promise as a test of each backend: `embedded::settling::...`, `rabbitmq::settling::...`.
macro_rules! kept_by_both {
    ($($room:ident { $($promise:ident)+ })+) => {
        mod embedded {
            $(mod $room {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    crate::$room::$promise(&crate::Ground::file()).await;
                })+
            })+
        }

        mod rabbitmq {
            $(mod $room {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    crate::$room::$promise(&crate::Ground::broker()).await;
                })+
            })+
        }
    };
}

kept_by_both! {
    deliveries {
        jobs_arrive_in_order_as_they_were_published
        jobs_of_many_producers_arrive_exactly_once
        an_unknown_route_is_refused
        lanes_do_not_mix
        no_more_is_out_than_the_prefetch
        bodies_and_traces_arrive_unchanged
        what_was_not_settled_comes_again_after_its_history
        a_stopped_lane_gets_nothing_but_may_settle
        what_a_closed_lane_had_is_free_at_once
    }
    settling {
        acknowledged_is_gone_and_told
        kept_stays_with_the_lane
        moved_goes_to_the_next_lane_with_all_it_carries
        buried_lies_among_the_dead_with_every_field
        facts_keep_their_order
        a_flush_ends_when_all_before_it_is_safe
        a_follower_gets_what_was_and_what_comes
        the_story_of_a_job_is_all_that_was_confirmed
    }
    telling {
        a_told_fact_is_on_the_stream_once
        the_listeners_of_this_process_hear_a_told_fact
    }
    letters {
        letters_are_listed_by_filter_and_stay
        replayed_goes_back_to_its_route_and_is_no_letter_any_more
        only_what_is_wanted_is_replayed
        purged_is_gone_and_the_rest_stays
    }
    topology {
        applied_twice_is_as_planned
        a_changed_plan_is_reported
        depths_count_what_waits
        a_retired_lane_leaves_its_jobs_to_another_or_to_the_dead_letters
    }
}

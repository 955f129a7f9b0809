//! However a step is cut, into micro-batches or into packs, it is the same step to float32 rounding.

mod support;

use smpo_losses::WinsorScope;
use support::one_step::{losses, modified, one_step, same};

#[test]
fn micro_batches_change_rounding_only() {
    let split = |micro: usize, accumulation: usize| {
        one_step(modified(WinsorScope::Step), |config| {
            let config = config.per_device_train_batch_size(micro).gradient_accumulation_steps(accumulation);
            config.gradient_checkpointing(micro == 4)
        })
    };
    let whole = split(8, 1);
    for (micro, accumulation) in [(4, 2), (2, 4), (1, 8)] {
        same(&format!("{micro} × {accumulation}"), &whole, &split(micro, accumulation));
    }
}

#[test]
fn packs_change_rounding_only() {
    for (name, loss) in losses() {
        let packed = |most: usize| {
            one_step(loss.clone(), |config| {
                let config = config.per_device_train_batch_size(4).gradient_accumulation_steps(2);
                config.max_tokens_per_pack(most)
            })
        };
        let whole = packed(100_000);
        // Every row alone; about three rows.
        for most in [1, 150] {
            same(&format!("{name}, packs of {most}"), &whole, &packed(most));
        }
    }
}

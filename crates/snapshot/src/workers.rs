//! Threads that take work from one stack, and may add to it.

use std::sync::{Condvar, Mutex, MutexGuard};

struct Stack<T> {
    todo: Vec<T>,
    /// Threads that have work in hand, and so may still add some.
    busy: usize,
}

struct Shared<T> {
    stack: Mutex<Stack<T>>,
    more: Condvar,
}

/// A thread with work in hand. Dropped also when the thread panics, so that the others do not wait for it forever.
struct Busy<'a, T>(&'a Shared<T>);

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Stack<T>> {
        self.stack
            .lock()
            .expect("nothing that could panic runs under this lock")
    }
}

impl<T> Drop for Busy<'_, T> {
    fn drop(&mut self) {
        let mut stack = self.0.lock();
        stack.busy -= 1;
        if stack.busy == 0 {
            self.0.more.notify_all();
        }
    }
}

/// Pieces that the caller does alone before other threads are worth starting: a small tree is done by then.
const ALONE: usize = 8;

/// Does `first` and all that comes of it on `threads` threads (the caller's is one): `each` takes one piece, adds
/// further ones to the list it gets, and notes results in the thread's own `R`.
pub(crate) fn work_off<T: Send, R: Default + Send>(
    threads: usize,
    first: T,
    each: impl Fn(T, &mut Vec<T>, &mut R) + Sync,
) -> Vec<R> {
    let mut todo = vec![first];
    let mut result = R::default();
    for _ in 0..ALONE {
        let Some(piece) = todo.pop() else {
            return vec![result];
        };
        let mut more = Vec::new();
        each(piece, &mut more, &mut result);
        todo.append(&mut more);
    }
    if todo.is_empty() {
        return vec![result];
    }
    let shared = Shared {
        stack: Mutex::new(Stack { todo, busy: 0 }),
        more: Condvar::new(),
    };
    let run = || {
        let mut result = R::default();
        let mut own = Vec::new();
        while let Some((mut piece, _busy)) = take(&shared) {
            loop {
                each(piece, &mut own, &mut result);
                let Some(next) = own.pop() else { break };
                piece = next;
                // One piece is kept in hand, the others are offered: most often nobody has to wait or be woken.
                if !own.is_empty() {
                    shared.lock().todo.append(&mut own);
                    shared.more.notify_all();
                }
            }
        }
        result
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mut results = vec![result, run()];
        results.extend(others.into_iter().map(|other| match other.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }));
        results
    })
}

/// The next piece, waiting while others may still add some.
fn take<T>(shared: &Shared<T>) -> Option<(T, Busy<'_, T>)> {
    let mut stack = shared.lock();
    loop {
        if let Some(piece) = stack.todo.pop() {
            stack.busy += 1;
            return Some((piece, Busy(shared)));
        }
        if stack.busy == 0 {
            return None;
        }
        stack = shared
            .more
            .wait(stack)
            .expect("nothing that could panic runs under this lock");
    }
}

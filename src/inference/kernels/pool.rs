//! A small pool of threads that wait for the next parallel region by spinning first and sleeping later.
//!
//! A forward pass has about ten short regions per layer. Waking a sleeping thread costs tens of microseconds, as
//! long as a region itself at decode; so workers spin for a while after each region. The calling thread works too.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Thread};

/// Spins before a worker sleeps: about half a millisecond, longer than any gap inside a forward pass.
const SPINS: usize = 20_000;
/// Most threads a pool can have.
pub const THREADS_MAX: usize = 256;

/// A fixed number of threads that run one region at a time.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    sleepers: Vec<Thread>,
    region: Mutex<()>, // one region at a time; callers from several threads take turns
}

type Task = dyn Fn(usize) + Sync;

/// Alone on its cache line (two, for machines that fetch them in pairs): what one thread spins on, others must not
/// write beside.
#[repr(align(128))]
struct Padded<T>(T);

struct Shared {
    epoch: Padded<AtomicUsize>,   // grows by one for each region
    running: Padded<AtomicUsize>, // workers that have not finished the current region
    next: Padded<AtomicUsize>,    // the next task to take
    task: UnsafeCell<Option<(*const Task, usize)>>,
    asleep: Vec<AtomicBool>,
    panicked: AtomicBool,
    stop: AtomicBool,
}

// SAFETY:
// - `task` is written only by the caller of `run` while `running == 0`, before `epoch` grows (release);
// - workers read it only after they saw the new epoch (acquire) and before they lower `running` (release).
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `task` is used only between the two points named above, while `run` holds the closure alive.
unsafe impl Send for Shared {}

impl Pool {
    /// Starts a pool in which `threads` threads work, the caller included; at least one.
    pub fn new(threads: usize) -> Self {
        let threads = threads.clamp(1, THREADS_MAX);
        let shared = Arc::new(Shared {
            epoch: Padded(AtomicUsize::new(0)),
            running: Padded(AtomicUsize::new(0)),
            next: Padded(AtomicUsize::new(0)),
            task: UnsafeCell::new(None),
            asleep: (1..threads).map(|_| AtomicBool::new(false)).collect(),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let mut workers: Vec<JoinHandle<()>> = Vec::new();
        for _ in 1..threads {
            let (index, shared) = (workers.len(), shared.clone());
            let name = format!("kernel-{}", index + 1);
            // A thread that cannot be started is one fewer to work with, not an error: results do not depend on it.
            workers.extend(std::thread::Builder::new().name(name).spawn(move || worker(&shared, index)));
        }
        let sleepers = workers.iter().map(|w: &JoinHandle<()>| w.thread().clone()).collect();
        Self { shared, workers, sleepers, region: Mutex::new(()) }
    }

    /// The number of threads that work, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task(0)` to `task(count - 1)`, spread over the threads, and returns when all have finished.
    /// Tasks are taken in order, each by whichever thread is free. A panic in a task is raised again here.
    pub fn run(&self, count: usize, task: impl Fn(usize) + Sync) {
        if count <= 1 || self.workers.is_empty() {
            (0..count).for_each(task);
            return;
        }
        let _turn = self.region.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let shared = &*self.shared;
        let task: &(dyn Fn(usize) + Sync + '_) = &task;
        // SAFETY: the lifetime is erased only until the wait below has seen every worker finish with it.
        let task: *const Task = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync + '_), *const Task>(task) };
        // SAFETY: `running == 0`, so no worker reads `task` now.
        unsafe { *shared.task.get() = Some((task, count)) };
        shared.next.0.store(0, Ordering::Relaxed);
        shared.running.0.store(self.workers.len(), Ordering::Relaxed);
        shared.epoch.0.fetch_add(1, Ordering::SeqCst);
        for (asleep, thread) in shared.asleep.iter().zip(&self.sleepers) {
            if asleep.load(Ordering::SeqCst) {
                thread.unpark();
            }
        }
        // SAFETY: `task` points to the closure above, which outlives this call.
        let own = catch_unwind(AssertUnwindSafe(|| take_tasks(shared, unsafe { &*task }, count)));
        let mut spins = 0usize;
        while shared.running.0.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins.is_multiple_of(4096) {
                std::thread::yield_now(); // more threads than cores: let the others finish
            } else {
                std::hint::spin_loop();
            }
        }
        // Taken back first: the next region is a healthy one.
        let panicked = shared.panicked.swap(false, Ordering::Relaxed);
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!panicked, "a kernel thread panicked; see the message above");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.0.fetch_add(1, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            let _ = worker.join();
        }
    }
}

fn take_tasks(shared: &Shared, task: &Task, count: usize) {
    loop {
        let i = shared.next.0.fetch_add(1, Ordering::Relaxed);
        if i >= count {
            return;
        }
        task(i);
    }
}

fn worker(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        let mut spins = 0;
        while shared.epoch.0.load(Ordering::Acquire) == seen {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
                continue;
            }
            shared.asleep[index].store(true, Ordering::SeqCst);
            // Checked again after the flag is up: a region that starts in between sees it and unparks.
            if shared.epoch.0.load(Ordering::SeqCst) == seen {
                std::thread::park();
            }
            shared.asleep[index].store(false, Ordering::SeqCst);
        }
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        seen += 1;
        // SAFETY: the epoch was seen with acquire, so the region's task is visible and alive until `running` falls.
        let region = unsafe { *shared.task.get() };
        if let Some((task, count)) = region {
            // SAFETY: as above.
            let done = catch_unwind(AssertUnwindSafe(|| take_tasks(shared, unsafe { &*task }, count)));
            if done.is_err() {
                shared.panicked.store(true, Ordering::Relaxed);
            }
        }
        shared.running.0.fetch_sub(1, Ordering::Release);
    }
}

/// A mutable slice that tasks of one region cut disjoint pieces from.
pub(super) struct Disjoint<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: pieces are disjoint by the obligation of `slice`, so sharing the pointer shares no element.
unsafe impl<T: Send> Sync for Disjoint<T> {}

impl<T> Disjoint<T> {
    pub fn new(slice: &mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len() }
    }

    /// Returns where `len` elements from `start` on begin; out of range is a panic.
    pub fn start(&self, start: usize, len: usize) -> *mut T {
        assert!(start <= self.len && len <= self.len - start, "piece {start}+{len} of {}", self.len);
        self.start.wrapping_add(start)
    }

    /// Returns `len` elements from `start` on; out of range is a panic.
    ///
    /// # Safety
    /// - No two pieces that are alive at the same time overlap.
    /// - The slice given to `new` outlives the piece.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        // SAFETY: in range, as `start` asserts; exclusive by the caller's obligation.
        unsafe { std::slice::from_raw_parts_mut(self.start(start, len), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_in_region_after_region() {
        let pool = Pool::new(4);
        for region in 0..2000 {
            let count = region % 37;
            let hits: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            pool.run(count, |i| {
                hits[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1), "region {region}");
        }
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3);
        let caught = catch_unwind(AssertUnwindSafe(|| pool.run(8, |i| assert_ne!(i, 5))));
        assert!(caught.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(8, |i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 28);
    }
}

//! Following one task at a terminal or in a pipe: its bytes become ours, until it ends or somebody leaves.
//!
//! Signals are heard at any time: while the network is silent, and while a reader of our output is slow.

use std::io::{self, IsTerminal as _};

use bytes::Bytes;
use haul_client::{Client, Follow, FollowEvent, FollowTask, Task};
use haul_types::{JobId, Reason, StreamKind, TaskIndex, TaskState};
use indicatif::ProgressBar;

use super::question::{Answer, ask};
use super::sink::Sink;
use crate::context::Context;
use crate::exit::{self, Exit};
use crate::failure::Failure;
use crate::interrupt::{Interrupt, Interrupts};
use crate::output::{Event, Mode};

/// How following ended.
pub(crate) enum Followed {
    /// The task ended.
    Ended(Box<Task>),
    /// We leave; the job goes on.
    Left(Exit),
}

/// Follows a task until it ends, or until somebody wants to leave.
pub(crate) async fn follow(
    client: &Client,
    id: JobId,
    task: Option<TaskIndex>,
    context: &mut Context,
) -> Result<Followed, Failure> {
    let cannot_listen =
        |error: io::Error| Failure::infrastructure("cannot listen for signals").because(&error);
    let mut interrupts = Interrupts::listen().map_err(cannot_listen)?;
    let mut pass = Pass::new(client, id, task, context)?;
    let mut asked_to_stop = false;
    loop {
        tokio::select! {
            biased;
            interrupt = interrupts.next() => {
                let next = on_interrupt(interrupt, asked_to_stop, &mut interrupts, pass.context).await;
                match next {
                    Next::GoOn => {}
                    Next::Stop => {
                        asked_to_stop = true;
                        client.cancel(id, task).await?;
                    }
                    Next::Leave(code) => {
                        pass.context.output.event(&Event::Detached(id));
                        return Ok(Followed::Left(Exit(code)));
                    }
                }
            }
            passed = pass.step() => match passed? {
                Passed::On => {}
                Passed::Ended(task) => return Ok(Followed::Ended(task)),
                Passed::NobodyReads => {
                    pass.context.output.event(&Event::Detached(id));
                    return Ok(Followed::Left(Exit(exit::BROKEN_PIPE)));
                }
            }
        }
    }
}

/// What a signal leads to.
enum Next {
    GoOn,
    Stop,
    Leave(u8),
}

async fn on_interrupt(
    interrupt: Interrupt,
    asked_to_stop: bool,
    interrupts: &mut Interrupts,
    context: &mut Context,
) -> Next {
    // Once the wish is with the controller, whoever is impatient may go.
    if asked_to_stop {
        return Next::Leave(exit::GOES_ON);
    }
    match wish(interrupt, interrupts).await {
        Some(true) => {
            context.output.event(&Event::Progress(
                "stopping the job; once more leaves it to stop by itself",
            ));
            Next::Stop
        }
        Some(false) => Next::Leave(exit::GOES_ON),
        None => Next::GoOn,
    }
}

/// What is wanted of the job by a signal: to stop it, to leave it running, or nothing after all.
pub(super) async fn wish(interrupt: Interrupt, interrupts: &mut Interrupts) -> Option<bool> {
    match interrupt {
        Interrupt::HangUp => Some(false),
        Interrupt::CtrlC if io::stdin().is_terminal() && io::stderr().is_terminal() => {
            tokio::select! {
                answer = ask() => match answer {
                    Answer::Stop => Some(true),
                    Answer::Detach => Some(false),
                    Answer::GoOn => None,
                },
                _ = interrupts.next() => {
                    // Below the question, and the terminal's own ^C.
                    eprintln!();
                    Some(false)
                }
            }
        }
        Interrupt::CtrlC | Interrupt::Terminate => Some(true),
    }
}

enum Passed {
    On,
    Ended(Box<Task>),
    NobodyReads,
}

/// From the controller to our standard streams.
struct Pass<'a> {
    context: &'a mut Context,
    follow: Follow,
    stdout: Sink,
    stderr: Sink,
    /// Setup bytes, while it is not known whether they are wanted.
    held_setup: Vec<u8>,
    task: Option<Box<Task>>,
    spinner: Option<ProgressBar>,
    /// Whether the setup's last line is not ended yet.
    setup_in_line: bool,
}

/// In quiet mode the setup stream is shown only when it says why the job failed; so much of its end is kept.
const HELD_SETUP: usize = 1 << 20;

impl<'a> Pass<'a> {
    fn new(
        client: &Client,
        job: JobId,
        task: Option<TaskIndex>,
        context: &'a mut Context,
    ) -> Result<Self, Failure> {
        let follow = client.follow(FollowTask {
            job,
            task,
            attempt: None,
            positions: StreamKind::ALL.into_iter().map(|stream| (stream, 0)).collect(),
        });
        let closed =
            |error: io::Error| Failure::usage("standard output or standard error is closed").because(&error);
        Ok(Self {
            context,
            follow,
            stdout: Sink::stdout().map_err(closed)?,
            stderr: Sink::stderr().map_err(closed)?,
            held_setup: Vec::new(),
            task: None,
            spinner: None,
            setup_in_line: false,
        })
    }

    /// One event, once what was begun before is written. Dropping the future loses nothing.
    async fn step(&mut self) -> Result<Passed, Failure> {
        if self.stdout.settle().await.is_err() {
            return Ok(Passed::NobodyReads);
        }
        // Without standard error there is nowhere to complain to; the job's output is still wanted.
        let _ = self.stderr.settle().await;
        // Only now: a spinner that is drawn while bytes are written stays behind between them.
        self.draw();
        let Some(event) = self.follow.next().await? else {
            return self.end().await;
        };
        match event {
            FollowEvent::Log { stream, offset, data } => return Ok(self.on_bytes(stream, offset, data)),
            FollowEvent::Task(task) => {
                self.on_task(&task);
                self.task = Some(task);
            }
            FollowEvent::Attempt(attempt) if attempt > 1 => {
                self.held_setup.clear();
                self.context.output.event(&Event::Attempt(attempt));
            }
            FollowEvent::Attempt(_) | FollowEvent::Job(_) => {}
            FollowEvent::Lost { why } => self.context.output.event(&Event::Lost(&why)),
            FollowEvent::Resumed => self.context.output.event(&Event::Resumed),
        }
        Ok(Passed::On)
    }

    fn on_bytes(&mut self, stream: StreamKind, offset: u64, data: Bytes) -> Passed {
        if self.context.mode == Mode::Json {
            self.context.output.event(&Event::Log {
                stream,
                offset,
                data: &data,
            });
            return Passed::On;
        }
        let begun = match stream {
            StreamKind::Stdout => {
                self.clear_spinner();
                self.stdout.begin(data)
            }
            StreamKind::Stderr => {
                self.clear_spinner();
                let _ = self.stderr.begin(data);
                Ok(())
            }
            StreamKind::Setup => {
                self.on_setup(&data);
                Ok(())
            }
        };
        match begun {
            Ok(()) => Passed::On,
            Err(_) => Passed::NobodyReads,
        }
    }

    /// The task changed its state, or its node was lost or found again.
    fn on_task(&mut self, task: &Task) {
        let was_away = self.task.as_ref().is_some_and(|task| task.unreachable);
        if task.unreachable == was_away {
            self.context.output.event(&Event::Task(task));
            return;
        }
        let node = task.node.as_deref().unwrap_or("its node");
        let node = crate::text::printable(node);
        self.context.output.event(&Event::Progress(&if task.unreachable {
            format!("{node} cannot be reached; what it runs goes on there")
        } else {
            format!("{node} can be reached again")
        }));
    }

    fn on_setup(&mut self, data: &Bytes) {
        if self.context.mode == Mode::Quiet {
            self.held_setup.extend_from_slice(data);
            let over = self.held_setup.len().saturating_sub(HELD_SETUP);
            self.held_setup.drain(..over);
            return;
        }
        self.clear_spinner();
        self.setup_in_line = !data.ends_with(b"\n");
        let dims = self.context.style.stderr;
        let mut shown = Vec::with_capacity(data.len() + 8);
        if dims {
            shown.extend_from_slice(b"\x1b[2m");
        }
        shown.extend_from_slice(data);
        if dims {
            shown.extend_from_slice(b"\x1b[0m");
        }
        let _ = self.stderr.begin(shown.into());
    }

    /// A spinner while the task is prepared, below what the setup has said.
    fn draw(&mut self) {
        let preparing = self
            .task
            .as_ref()
            .is_some_and(|task| task.state == TaskState::Preparing);
        if !preparing || self.setup_in_line || !self.context.may_draw() {
            self.clear_spinner();
        } else if self.spinner.is_none() {
            let spinner = super::progress::spinner();
            spinner.set_message("preparing the directory and the environment");
            spinner.enable_steady_tick(std::time::Duration::from_millis(120));
            self.spinner = Some(spinner);
        }
    }

    fn clear_spinner(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }

    async fn end(&mut self) -> Result<Passed, Failure> {
        self.clear_spinner();
        let Some(task) = self.task.take() else {
            return Err(Failure::infrastructure(
                "the controller ended the stream without saying how the job ended",
            ));
        };
        let setup_failed = task
            .last()
            .is_some_and(|last| last.reason == Reason::EnvironmentFailed);
        if setup_failed && !self.held_setup.is_empty() {
            let _ = self.stderr.begin(std::mem::take(&mut self.held_setup).into());
            let _ = self.stderr.settle().await;
        }
        Ok(Passed::Ended(task))
    }
}

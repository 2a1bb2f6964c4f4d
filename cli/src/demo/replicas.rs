//! Two replicas that share their record in Redis, in one command: two real Envoys from the repository's
//! `deploy/replicas/envoy.yaml`, a redis-server and one stand-in backend.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testbed::backend::{Backend, Behaviour};
use testbed::edge::{Edge, Setup};
use testbed::envoy::Bootstrap;
use testbed::redis::Server;
use testbed::waiting::until;
use testbed::wecom::Event;
use tokio::task::JoinHandle;

use crate::demo::mark;
use crate::terminal::say;

/// Two Envoys, and what is behind them.
struct Fleet {
    one: Edge,
    other: Edge,
    backend: Backend,
    redis: Server,
    /// Whether everything so far was as it should be.
    good: bool,
}

/// Plays all scenes; whether each went as it should.
pub(super) async fn play() -> Result<bool> {
    let (redis, backend) = (Server::start().await?, Backend::start().await?);
    let (one, other) = (replica(&backend, &redis).await?, replica(&backend, &redis).await?);
    say(format_args!("Replica 1: {}, replica 2: {}, Redis: 127.0.0.1:{}\n", one.url(), other.url(), redis.port()));
    let fleet = a_copy_later(Fleet { one, other, backend, redis, good: true }).await?;
    let fleet = a_copy_in_flight(fleet).await?;
    let fleet = redis_away(fleet).await?;
    an_envoy_killed(fleet).await
}

/// A replica as shipped, but with more time for the record than it takes on a busy machine.
async fn replica(backend: &Backend, redis: &Server) -> Result<Edge> {
    let setup = Setup::of(Bootstrap::replica()?.patient()).served_by(backend);
    setup.start_with(|bootstrap| bootstrap.cluster("record", redis.port())).await
}

async fn a_copy_later(mut fleet: Fleet) -> Result<Fleet> {
    let event = Event::bind("sn-later");
    fleet.backend.on_device("sn-later", Behaviour::verdict(4));
    let (first, copy) = (bind(&fleet.one, &event).await?, bind(&fleet.other, &event).await?);
    let again = bind(&fleet.other, &event).await?;
    fleet.told("sn-later", 1, "a bind on replica 1, and two copies on replica 2", &[first, copy, again], &[4, 4, 4]);
    Ok(fleet)
}

async fn a_copy_in_flight(mut fleet: Fleet) -> Result<Fleet> {
    let event = Event::bind("sn-meanwhile");
    fleet.backend.on_device("sn-meanwhile", Behaviour::verdict(0).after(Duration::from_millis(600)));
    let first = in_call(&fleet.one, &event, &fleet.backend).await?;
    let copy = bind(&fleet.other, &event).await?;
    fleet.told(
        "sn-meanwhile",
        1,
        "a bind that takes 600 ms on replica 1, and a copy on replica 2 meanwhile",
        &[first.await??, copy],
        &[0, 0],
    );
    Ok(fleet)
}

async fn redis_away(mut fleet: Fleet) -> Result<Fleet> {
    let event = Event::bind("sn-away");
    fleet.redis.kill()?;
    let away = bind(&fleet.one, &event).await?;
    fleet.told("sn-away", 0, "Redis is killed: a bind on replica 1", &[away], &[7]);
    fleet.redis.start_again().await?;
    let (copy, again) = (bind(&fleet.other, &event).await?, bind(&fleet.one, &event).await?);
    fleet.told("sn-away", 1, "Redis is back: its copies on replica 2 and on replica 1", &[copy, again], &[0, 0]);
    Ok(fleet)
}

async fn an_envoy_killed(fleet: Fleet) -> Result<bool> {
    let event = Event::bind("sn-killed");
    fleet.backend.on_device("sn-killed", Behaviour::verdict(0).after(Duration::from_millis(800)));
    let first = in_call(&fleet.one, &event, &fleet.backend).await?;
    let Fleet { one, other, backend, redis, good } = fleet;
    one.envoy.kill()?;
    let unanswered = first.await?.is_err();
    let copy = bind(&other, &event).await?;
    let again = replica(&backend, &redis).await?;
    let after_restart = bind(&again, &event).await?;
    let mut fleet = Fleet { one: again, other, backend, redis, good: good && unanswered };
    fleet.told(
        "sn-killed",
        1,
        "replica 1 is killed in mid-call and started again: copies on replica 2 and on replica 1",
        &[copy, after_restart],
        &[7, 7],
    );
    for edge in [fleet.one, fleet.other] {
        edge.envoy.stop().await?;
    }
    Ok(fleet.good)
}

/// A verdict, and how long it took.
struct Told(u32, Duration);

fn bind(edge: &Edge, event: &Event) -> impl Future<Output = Result<Told>> + Send + 'static {
    let (client, account, url) = (edge.client.clone(), edge.account.clone(), edge.url());
    let request = account.seal(event);
    async move {
        let began = Instant::now();
        let answer = client.send(&url, &request).await?;
        let errcode = answer.decrypt(&account)?.errcode().context("a verdict without errcode")?;
        Ok(Told(errcode, began.elapsed()))
    }
}

/// Sends a bind that takes a while, and waits until the backend is asked, or until it is answered without.
async fn in_call(edge: &Edge, event: &Event, backend: &Backend) -> Result<JoinHandle<Result<Told>>> {
    let before = backend.count();
    let first = tokio::spawn(bind(edge, event));
    until("the backend was asked", async || backend.count() > before || first.is_finished()).await?;
    Ok(first)
}

impl Fleet {
    /// Says how a scene went: what was told, and how often the backend was asked about that device.
    fn told(&mut self, device_sn: &str, deliveries: usize, scene: &str, told: &[Told], expected: &[u32]) {
        let count = self.backend.requests_for(device_sn).len();
        let errcodes: Vec<_> = told.iter().map(|Told(errcode, _)| *errcode).collect();
        let good = errcodes == expected && count == deliveries;
        self.good &= good;
        let words: Vec<_> = told
            .iter()
            .map(|Told(errcode, after)| format!("errcode {errcode} after {} ms", after.as_millis()))
            .collect();
        let times = ["not asked", "asked once"].get(count).copied().unwrap_or("asked more than once");
        say(format_args!("{} {scene}: {}; the backend was {times}", mark(good), words.join(", ")));
        if !good {
            say(format_args!("    expected: {expected:?}, and {deliveries} deliveries"));
        }
    }
}

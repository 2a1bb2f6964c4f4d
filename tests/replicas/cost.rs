//! What a shared record costs, for docs/replicas.md:
//!
//!     cargo test --test replicas -- --ignored --nocapture cost

use std::fs;

use testbed::envoy::Launcher;

use super::*;

/// Binds for each measurement, one after the other.
const BINDS: u32 = 3000;

#[tokio::test]
#[ignore = "prints figures, and asserts little: for docs/replicas.md, on a machine that does nothing else"]
async fn cost_of_a_bind_with_and_without_redis() {
    let _machine = MACHINE.write().await;
    if !redis::is_there() {
        return;
    }
    let (server, backend) = (Server::start().await.unwrap(), Backend::start().await.unwrap());
    let alone = |bootstrap: Bootstrap| {
        bootstrap.edit_plugin_value(|value| {
            value.as_object_mut().unwrap().remove("dedup");
        })
    };
    let without = measured("without Redis", replica(&backend, server.port(), |b| direct(alone(b))).await).await;
    let before = cpu_us(server.process_id().unwrap());
    let with = measured("with Redis", replica(&backend, server.port(), direct).await).await;
    let of_redis = (cpu_us(server.process_id().unwrap()) - before) / f64::from(BINDS);
    println!("two exchanges: {:.0} µs of Envoy's CPU, {of_redis:.0} µs of Redis's", with - without);
    let names = server.names().unwrap();
    println!("a record takes {} bytes of Redis's memory", server.memory_usage(&names[0]).unwrap());
    assert_eq!(backend.count(), 2 * BINDS as usize);
}

/// Envoy itself, whose time is then the process's.
fn direct(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap.launcher(Launcher::Direct)
}

/// Prints how long binds take, and gives Envoy's CPU time for each in microseconds.
async fn measured(what: &str, edge: Edge) -> f64 {
    let requests: Vec<_> = (0..BINDS).map(|_| edge.account.seal(Event::bind("sn-cost"))).collect();
    let before = cpu_us(edge.envoy.process_id());
    let mut took = Vec::new();
    for request in &requests {
        let began = Instant::now();
        assert_eq!(edge.send(request).await.unwrap().status, 200);
        took.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    let cpu = (cpu_us(edge.envoy.process_id()) - before) / f64::from(BINDS);
    took.sort_by(f64::total_cmp);
    let (half, most) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("{what}: {cpu:.0} µs of CPU a bind; half of them take {half:.2} ms, 99 % {most:.2} ms");
    end(edge).await;
    cpu
}

/// The CPU time of a process so far: fields 14 and 15 of its `stat`, in hundredths of a second.
fn cpu_us(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let after_name = stat.rsplit(") ").next().unwrap();
    let fields: Vec<f64> = after_name.split(' ').skip(11).take(2).map(|field| field.parse().unwrap()).collect();
    (fields[0] + fields[1]) * 10_000.0
}

"""The interpreter's exit while daemon threads of the application are inside the producer.

CPython before 3.14 ends such a thread by unwinding its stack when it takes the GIL; the unwinding through native
frames aborted the process.
"""

from __future__ import annotations

from facade_support import MakeTopic, finish, start_script

from penstock.devbroker import RunningCluster

THREADS = """
    import sys, threading
    from penstock import KafkaError, KafkaProducer

    bootstrap, topic = sys.argv[1:]
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=0, value_serializer=lambda text: text.encode())
    waiting = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=60_000)
    waiting.partitions_for(topic)
    done = producer.send(topic, "value")
    done.result(20)
    begun = threading.Barrier(13)

    def for_ever(work):
        def run():
            begun.wait()
            while True:
                try:
                    work()
                except KafkaError:
                    pass  # closed by the exit
        return run

    works = {
        "result": lambda: waiting.send(topic, b"value").result(),
        "send": lambda: producer.send(topic, "value").exception(),
        "metadata": lambda: producer.send("never-there", "value"),
        "callback": lambda: done.add_done_callback(lambda future: future.exception()),
    }
    for work in list(works.values()) * 3:
        threading.Thread(target=for_ever(work), daemon=True).start()
    begun.wait()
    producer.send(topic, "last").result(20)
"""


def test_daemon_threads_inside_the_producer_do_not_crash_the_exit(
    cluster: RunningCluster, new_topic: MakeTopic
) -> None:
    # Each run depends on chance; before the fix every one of them crashed.
    for _ in range(2):
        runs = [start_script(THREADS, cluster.bootstrap_servers, new_topic()) for _ in range(2)]
        for run in runs:
            code, _, err = finish(run)
            assert code == 0, err
            assert "FATAL" not in err


def test_a_callback_of_atexit_may_still_wait_for_a_daemon_thread_that_sends(
    cluster: RunningCluster, topic: str
) -> None:
    # Registered before the import, so that it runs after the producers are closed.
    code, out, err = finish(
        start_script(
            """
            import atexit, sys, threading

            def send_until_closed():
                while True:
                    try:
                        producer.send(sys.argv[2], "value")
                    except penstock.ProducerClosedError:
                        print("closed")
                        return

            sender = threading.Thread(target=send_until_closed, daemon=True)
            atexit.register(lambda: (sender.join(20), print("alive", sender.is_alive())))

            import penstock
            producer = penstock.KafkaProducer(bootstrap_servers=sys.argv[1], value_serializer=str.encode)
            sender.start()
            producer.send(sys.argv[2], "value").result(20)
            """,
            cluster.bootstrap_servers,
            topic,
        )
    )
    assert (code, out) == (0, "closed\nalive False\n"), err


def test_clearing_the_callbacks_of_atexit_does_not_close_producers(cluster: RunningCluster, topic: str) -> None:
    code, out, err = finish(
        start_script(
            """
            import atexit, sys
            import penstock

            atexit._clear()  # what child processes of multiprocessing do first, from CPython 3.14 on
            with penstock.KafkaProducer(bootstrap_servers=sys.argv[1], value_serializer=str.encode) as producer:
                print(producer.send(sys.argv[2], "value").result(20).offset)
            """,
            cluster.bootstrap_servers,
            topic,
        )
    )
    assert (code, out) == (0, "0\n"), err

// The Go client franz-go as a contestant: one JSON task in (first argument), one JSON measurement out.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type task struct {
	Bootstrap string  `json:"bootstrap"`
	Topic     string  `json:"topic"`
	Count     int64   `json:"count"`
	Size      int     `json:"size"`
	Keys      int     `json:"keys"`
	LingerMs  int     `json:"linger_ms"`
	WarmUpS   float64 `json:"warm_up_s"`
	Seconds   float64 `json:"seconds"`
	Corpus    string  `json:"corpus"`
	Defaults  bool    `json:"defaults"`
}

type measurement struct {
	Version    string         `json:"version"`
	Settings   map[string]any `json:"settings"`
	Count      int64          `json:"count"`
	Seconds    float64        `json:"seconds"`
	CPUSeconds float64        `json:"cpu_seconds"`
	Failures   int64          `json:"failures"`
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "franz-go:", err)
		os.Exit(1)
	}
}

// All threads, user and system.
func cpu() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func version() string {
	built, _ := debug.ReadBuildInfo()
	for _, module := range built.Deps {
		if module.Path == "github.com/twmb/franz-go" {
			return module.Version
		}
	}
	return "unknown"
}

// A thousand values in rotation; random ones cannot be compressed, which is the default.
func valuesOf(task task) [][]byte {
	if task.Corpus != "random" {
		return [][]byte{bytes.Repeat([]byte("x"), task.Size)}
	}
	random := rand.NewChaCha8([32]byte{4})
	values := make([][]byte, 1000)
	for number := range values {
		values[number] = make([]byte, task.Size)
		random.Read(values[number])
	}
	return values
}

func main() {
	task := task{LingerMs: 5}
	check(json.Unmarshal([]byte(os.Args[1]), &task))
	shown := map[string]any{}
	options := []kgo.Opt{kgo.SeedBrokers(task.Bootstrap)}
	if !task.Defaults {
		// franz-go's own benchmark (examples/bench): 250 MiB of buffer for records, batches of a million bytes. Idempotent
		// with acks from all in-sync replicas is its default, and compression has to be turned off. The partitioner that
		// keeps a partition for a whole batch makes larger batches than the default's 64 KiB.
		buffered := (250<<20)/task.Size + 1
		options = append(options,
			kgo.RequiredAcks(kgo.AllISRAcks()),
			kgo.ProducerLinger(time.Duration(task.LingerMs)*time.Millisecond),
			kgo.MaxBufferedRecords(buffered),
			kgo.ProducerBatchMaxBytes(1_000_000),
			kgo.ProducerBatchCompression(kgo.NoCompression()),
			kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		)
		shown = map[string]any{
			"acks": "all", "idempotent": true, "ProducerLinger": fmt.Sprintf("%d ms", task.LingerMs),
			"MaxBufferedRecords": buffered, "ProducerBatchMaxBytes": 1_000_000, "ProducerBatchCompression": "none",
			"RecordPartitioner": "StickyKeyPartitioner",
		}
	}
	shown["go"] = runtime.Version()
	client, err := kgo.NewClient(options...)
	check(err)

	values := valuesOf(task)
	keys := make([][]byte, task.Keys)
	for number := range keys {
		keys[number] = fmt.Appendf(nil, "key-%08d", number)
	}
	var delivered atomic.Int64
	onDelivery := func(_ *kgo.Record, err error) {
		if err == nil {
			delivered.Add(1)
		}
	}
	send := func(count int64) {
		for number := range count {
			record := &kgo.Record{Topic: task.Topic, Value: values[number%int64(len(values))]}
			if len(keys) > 0 {
				record.Key = keys[number%int64(len(keys))]
			}
			client.Produce(context.Background(), record, onDelivery)
		}
	}

	sendFor := func(seconds float64) (count int64) {
		for end := time.Now().Add(time.Duration(seconds * float64(time.Second))); ; {
			send(1000)
			count += 1000
			if time.Now().After(end) {
				return count
			}
		}
	}
	sendFor(task.WarmUpS)
	check(client.Flush(context.Background()))
	delivered.Store(0)

	used, began := cpu(), time.Now()
	if task.Seconds > 0 {
		task.Count = sendFor(task.Seconds)
	} else {
		send(task.Count)
	}
	check(client.Flush(context.Background()))
	seconds, spent := time.Since(began).Seconds(), cpu()-used
	client.Close()
	check(json.NewEncoder(os.Stdout).Encode(measurement{
		Version: version(), Count: task.Count, Seconds: seconds, CPUSeconds: spent,
		Failures: task.Count - delivered.Load(),
		Settings: shown,
	}))
}

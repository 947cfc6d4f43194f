// franz-go's fake cluster as a judge: a cluster that is not ours and not Kafka's, with faults on demand.
//
// The first argument is the configuration, as JSON. Then each line on standard input is a command, answered by one line
// on standard output; the process ends with its input. tests/support/kfake.py is the other end.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type config struct {
	Brokers    int    `json:"brokers"`
	Partitions int    `json:"partitions"`
	AutoCreate bool   `json:"auto_create"`
	MaxProduce *int16 `json:"max_produce_version"`
}

type command struct {
	Do         string  `json:"do"`
	Key        int16   `json:"key"`
	Code       int16   `json:"code"`
	Topic      string  `json:"topic"`
	Partition  int32   `json:"partition"`
	Partitions []int32 `json:"partitions"`
	Node       int32   `json:"node"`
	Count      int     `json:"count"`
	TopLevel   bool    `json:"top_level"`
	Observe    bool    `json:"observe"`
	ID         int     `json:"id"`
	TimeoutS   float64 `json:"timeout_s"`
}

type judge struct {
	cluster *kfake.Cluster
	faults  []*kfake.FaultHandle
	cuts    []*atomic.Bool
}

func (j *judge) do(c command) (any, error) {
	switch c.Do {
	case "fault":
		fault := kfake.Fault{
			Keys: []kmsg.Key{kmsg.Key(c.Key)}, Topic: c.Topic, Partitions: c.Partitions,
			TopLevel: c.TopLevel, Count: c.Count, Observe: c.Observe,
		}
		if !c.Observe {
			known, ok := kerr.ErrorForCode(c.Code).(*kerr.Error)
			if !ok {
				return nil, fmt.Errorf("no error has the code %d", c.Code)
			}
			fault.Err = known
		}
		j.faults = append(j.faults, j.cluster.Fault(fault))
		return len(j.faults) - 1, nil
	case "remove":
		j.faults[c.ID].Remove()
		return nil, nil
	case "hits":
		return j.faults[c.ID].Hits(), nil
	case "wait":
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(c.TimeoutS*float64(time.Second)))
		defer cancel()
		return nil, j.faults[c.ID].Wait(ctx, c.Count)
	case "cut":
		// The requests that come are not processed, and their connection is closed.
		var cuts atomic.Bool
		cuts.Store(true)
		j.cuts = append(j.cuts, &cuts)
		j.cluster.ControlKey(c.Key, func(kmsg.Request) (kmsg.Response, error, bool) {
			j.cluster.KeepControl()
			if !cuts.Load() {
				return nil, nil, false
			}
			return nil, fmt.Errorf("cut on demand"), true
		})
		return len(j.cuts) - 1, nil
	case "mend":
		j.cuts[c.ID].Store(false)
		return nil, nil
	case "create_topic":
		return nil, j.cluster.CreateTopic(c.Topic, int32(c.Count), nil)
	case "delete_topic":
		return nil, j.cluster.DeleteTopic(c.Topic)
	case "topic_id":
		info := j.cluster.TopicInfo(c.Topic)
		if info == nil {
			return nil, fmt.Errorf("there is no topic %q", c.Topic)
		}
		return hex.EncodeToString(info.TopicID[:]), nil
	case "move":
		return nil, j.cluster.MoveTopicPartition(c.Topic, c.Partition, c.Node)
	case "leader":
		return j.cluster.LeaderFor(c.Topic, c.Partition), nil
	}
	return nil, fmt.Errorf("unknown command %q", c.Do)
}

func main() {
	var wanted config
	if err := json.Unmarshal([]byte(os.Args[1]), &wanted); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	options := []kfake.Opt{kfake.NumBrokers(wanted.Brokers), kfake.DefaultNumPartitions(wanted.Partitions)}
	if wanted.AutoCreate {
		options = append(options, kfake.AllowAutoTopicCreation())
	}
	if wanted.MaxProduce != nil {
		options = append(options, maxProduce(*wanted.MaxProduce))
	}
	cluster, err := kfake.NewCluster(options...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer cluster.Close()
	out := json.NewEncoder(os.Stdout)
	answer := func(value any, err error) {
		result := map[string]any{"value": value}
		if err != nil {
			result = map[string]any{"error": err.Error()}
		}
		out.Encode(result) //nolint:errcheck // if the client has ended, our input ends, too
	}
	answer(cluster.ListenAddrs(), nil)
	judge := &judge{cluster: cluster}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			answer(nil, err)
			continue
		}
		answer(judge.do(c))
	}
}

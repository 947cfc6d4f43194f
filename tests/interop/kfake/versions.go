package main

import (
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// A cluster like an older broker's: Produce in this version at most. Before 13 requests name topics, and have no ids.
func maxProduce(version int16) kfake.Opt {
	versions := kversion.Tip()
	versions.SetMaxKeyVersion(int16(kmsg.Produce), version)
	return kfake.MaxVersions(versions)
}

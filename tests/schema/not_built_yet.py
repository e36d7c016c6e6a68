"""What of the contract is not built yet. The list only shrinks, and is empty in the end."""

NOT_BUILT_YET = frozenset(
    {
        "CreateBillingPortalSessionInput",
        "CreatePaymentMethodSetupInput",
        "HostedPagePayload",
        "Invoice",
        "InvoiceConnection",
        "InvoiceEdge",
        "Mutation.createBillingPortalSession",
        "Mutation.createPaymentMethodSetup",
        "Mutation.removePaymentMethod",
        "Mutation.requestTransfer",
        "Mutation.setDefaultPaymentMethod",
        "PaymentMethod",
        "PaymentMethodPayload",
        "RemovePaymentMethodInput",
        "RequestTransferInput",
        "SetDefaultPaymentMethodInput",
        "Transfer",
        "TransferPayload",
        "TransferStatus",
        "Workspace.invoices",
        "Workspace.paymentMethods",
    }
)

"""The rule of every field that needs one, as data: a test calls each field as everybody and compares."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from accounts.rules.roles import ROLES, SCOPES, Action, Role


class Reach(StrEnum):
    """Whom a field answers."""

    PUBLIC = "everybody"
    SHOWN = "whoever was shown the object it belongs to"
    AUTHENTICATED = "whoever has a credential"
    PERSON = "a signed-in person"
    VIEWER = "the viewer, about themselves"
    FELLOW = "the viewer, and those who may do the action in a workspace that the person is in"
    NODE = "as the kind of thing that the id stands for"
    WORKSPACE = "those whose role or scope allows the action in the workspace"
    HIDDEN = "null for those who may not do the action"


@dataclass(frozen=True, slots=True)
class Rule:
    """Whom a field answers. `seen_with`: the action without which the object does not exist for the viewer."""

    reach: Reach
    action: Action | None = None
    seen_with: Action | None = None


PUBLIC: Final = Rule(Reach.PUBLIC)
SHOWN: Final = Rule(Reach.SHOWN)
PERSON: Final = Rule(Reach.PERSON)
VIEWER: Final = Rule(Reach.VIEWER)


def _workspace(action: Action, seen_with: Action | None = None) -> Rule:
    return Rule(Reach.WORKSPACE, action, seen_with)


def _hidden(action: Action) -> Rule:
    return Rule(Reach.HIDDEN, action)


FIELDS: Final[dict[str, Rule]] = {
    "Query.viewer": VIEWER,
    "Query.node": Rule(Reach.NODE),
    "Query.nodes": Rule(Reach.NODE),
    "Query.workspace": _workspace(Action.WORKSPACE_READ),
    "Query.plans": PUBLIC,
    "Query.creditPacks": PUBLIC,
    "Query.models": PUBLIC,
    "Query.models(availableTo:)": _workspace(Action.PLAN_READ),
    "Query.planModels": PUBLIC,
    "Query.publishedModels": PUBLIC,
    "Query.model": PUBLIC,
    "Query.estimateCall": _workspace(Action.CALLS_MAKE),
    "Query.previewPlanChange": _workspace(Action.BILLING_READ),
    "Query.rateLimit": VIEWER,
    "Query._service": PUBLIC,
    "Query._entities": Rule(Reach.NODE),
    "Mutation.signUp": PUBLIC,
    "Mutation.verifyEmail": PUBLIC,
    "Mutation.signIn": PUBLIC,
    "Mutation.refreshSession": PUBLIC,
    "Mutation.signOut": Rule(Reach.AUTHENTICATED),
    "Mutation.createWorkspace": PERSON,
    "Mutation.acceptInvitation": PERSON,
    "Mutation.updateWorkspace": _workspace(Action.WORKSPACE_UPDATE),
    "Mutation.deleteWorkspace": _workspace(Action.WORKSPACE_DELETE),
    "Mutation.inviteMember": _workspace(Action.MEMBERS_INVITE),
    "Mutation.revokeInvitation": _workspace(Action.MEMBERS_INVITE, Action.INVITATIONS_READ),
    "Mutation.updateMember": _workspace(Action.MEMBERS_UPDATE, Action.MEMBERS_READ),
    "Mutation.removeMember": _workspace(Action.MEMBERS_REMOVE, Action.MEMBERS_READ),
    "Mutation.createApiKey": _workspace(Action.KEYS_WRITE),
    "Mutation.updateApiKey": _workspace(Action.KEYS_WRITE, Action.KEYS_READ),
    "Mutation.rotateApiKey": _workspace(Action.KEYS_WRITE, Action.KEYS_READ),
    "Mutation.revokeApiKey": _workspace(Action.KEYS_WRITE, Action.KEYS_READ),
    "Mutation.signInWithToken": PUBLIC,
    "Mutation.requestPasswordReset": PUBLIC,
    "Mutation.resetPassword": PUBLIC,
    "Mutation.joinWorkspace": PUBLIC,
    "Mutation.changePassword": PERSON,
    "Mutation.updateViewer": PERSON,
    "Mutation.revokeSession": PERSON,
    "Mutation.signOutEverywhere": PERSON,
    "Mutation.enrolTwoFactor": PERSON,
    "Mutation.confirmTwoFactor": PERSON,
    "Mutation.turnOffTwoFactor": PERSON,
    "Mutation.setMailPreference": PERSON,
    "Mutation.resendInvitation": _workspace(Action.MEMBERS_INVITE, Action.INVITATIONS_READ),
    "Mutation.leaveWorkspace": _workspace(Action.WORKSPACE_LEAVE),
    "Mutation.setSpendLimit": _workspace(Action.SPEND_LIMITS_WRITE),
    "Mutation.createWebhookEndpoint": _workspace(Action.WEBHOOKS_WRITE),
    "Mutation.updateWebhookEndpoint": _workspace(Action.WEBHOOKS_WRITE, Action.WEBHOOKS_READ),
    "Mutation.deleteWebhookEndpoint": _workspace(Action.WEBHOOKS_WRITE, Action.WEBHOOKS_READ),
    "Mutation.rotateWebhookSecret": _workspace(Action.WEBHOOKS_WRITE, Action.WEBHOOKS_READ),
    "Mutation.sendTestWebhook": _workspace(Action.WEBHOOKS_WRITE, Action.WEBHOOKS_READ),
    "Mutation.replayWebhookDelivery": _workspace(Action.WEBHOOKS_WRITE, Action.WEBHOOKS_READ),
    "Mutation.updateAlertSettings": _workspace(Action.BILLING_WRITE),
    "Mutation.subscribe": _workspace(Action.BILLING_WRITE),
    "Mutation.changePlan": _workspace(Action.BILLING_WRITE),
    "Mutation.cancelSubscription": _workspace(Action.BILLING_WRITE),
    "Mutation.resumeSubscription": _workspace(Action.BILLING_WRITE),
    "Mutation.redeemPromoCode": _workspace(Action.BILLING_WRITE),
    "Mutation.addCredits": _workspace(Action.BILLING_WRITE),
    "Mutation.buyCreditPack": _workspace(Action.BILLING_WRITE),
    "Mutation.updateAutoRecharge": _workspace(Action.BILLING_WRITE),
    "Mutation.createPaymentMethodSetup": _workspace(Action.BILLING_WRITE),
    "Mutation.setDefaultPaymentMethod": _workspace(Action.BILLING_WRITE, Action.BILLING_READ),
    "Mutation.removePaymentMethod": _workspace(Action.BILLING_WRITE, Action.BILLING_READ),
    "Mutation.createBillingPortalSession": _workspace(Action.BILLING_WRITE),
    "Mutation.createPayoutSetup": _workspace(Action.TRANSFERS_WRITE),
    "Mutation.requestTransfer": _workspace(Action.TRANSFERS_WRITE),
    "Mutation.addTaxId": _workspace(Action.BILLING_WRITE),
    "Mutation.removeTaxId": _workspace(Action.BILLING_WRITE),
    "Mutation.publishModel": _workspace(Action.MODELS_PUBLISH),
    "Mutation.updatePublishedModel": _workspace(Action.MODELS_PUBLISH, Action.WORKSPACE_READ),
    "Mutation.unpublishModel": _workspace(Action.MODELS_PUBLISH, Action.WORKSPACE_READ),
    "Mutation.callModel": _workspace(Action.CALLS_MAKE),
    "Mutation.startCall": _workspace(Action.CALLS_MAKE),
    "Mutation.cancelCall": _workspace(Action.CALLS_CANCEL, Action.CALLS_READ),
    "Mutation.deleteAsset": _workspace(Action.ASSETS_DELETE, Action.CONTENT_READ_ALL),
    "Subscription.streamModel": _workspace(Action.CALLS_MAKE),
    "Subscription.walletChanged": _workspace(Action.WALLET_READ),
    "Subscription.callUpdated": _workspace(Action.CALLS_READ, Action.CALLS_READ),
    "Viewer.user": VIEWER,
    "Viewer.apiKey": VIEWER,
    "Viewer.twoFactor": VIEWER,
    "Viewer.sessions": VIEWER,
    "Viewer.mailPreferences": VIEWER,
    "Viewer.workspaces": VIEWER,
    "Viewer.assets": VIEWER,
    "Workspace.members": _workspace(Action.MEMBERS_READ),
    "Workspace.invitations": _workspace(Action.INVITATIONS_READ),
    "Workspace.plan": _workspace(Action.PLAN_READ),
    "Workspace.subscription": _workspace(Action.PLAN_READ),
    "Workspace.freeCreditsRefused": _workspace(Action.PLAN_READ),
    "Workspace.wallet": _workspace(Action.WALLET_READ),
    "Workspace.paymentMethods": _workspace(Action.BILLING_READ),
    "Workspace.invoices": _workspace(Action.BILLING_READ),
    "Workspace.transfers": _workspace(Action.BILLING_READ),
    "Workspace.taxIds": _workspace(Action.BILLING_READ),
    "Workspace.apiKeys": _workspace(Action.KEYS_READ),
    "Workspace.calls": _workspace(Action.CALLS_READ),
    "Workspace.assets": _workspace(Action.CALLS_READ),
    "Workspace.storage": _workspace(Action.USAGE_READ),
    "Workspace.webhookEndpoints": _workspace(Action.WEBHOOKS_READ),
    "Workspace.alertSettings": _workspace(Action.BILLING_READ),
    "Workspace.usage": _workspace(Action.USAGE_READ),
    "Workspace.publishedModels": _workspace(Action.WORKSPACE_READ),
    "Workspace.earnings": _workspace(Action.WALLET_READ),
    "Workspace.rateLimit": _workspace(Action.RATE_LIMIT_READ),
    "Workspace.spendLimits": _workspace(Action.BILLING_READ),
    "Workspace.auditLog": _workspace(Action.AUDIT_READ),
    "Wallet.balanceUsd": SHOWN,
    "Wallet.grants": SHOWN,
    "Wallet.entries": SHOWN,
    "Wallet.balanceAt": SHOWN,
    "Wallet.autoRecharge": SHOWN,
    "PlanSubscription.plan": SHOWN,
    "PlanSubscription.price": SHOWN,
    "PlanSubscription.scheduledPrice": SHOWN,
    "RedeemPromoCodePayload.grant": _hidden(Action.WALLET_READ),
    "RedeemPromoCodePayload.wallet": _hidden(Action.WALLET_READ),
    "AddCreditsPayload.grant": _hidden(Action.WALLET_READ),
    "AddCreditsPayload.wallet": _hidden(Action.WALLET_READ),
    "TransferPayload.wallet": _hidden(Action.WALLET_READ),
    "WalletPayload.wallet": _hidden(Action.WALLET_READ),
    "WebhookEndpoint.deliveries": SHOWN,
    "UsageReport.usd": SHOWN,
    "UsageReport.buckets": SHOWN,
    "UsageBucket.usd": SHOWN,
    "UsageBucket.member": _hidden(Action.MEMBERS_READ),
    "UsageBucket.apiKey": _hidden(Action.KEYS_READ),
    "EarningsReport.usd": SHOWN,
    "EarningsReport.buckets": SHOWN,
    "EarningsBucket.usd": SHOWN,
    "LedgerEntry.grant": SHOWN,
    "LedgerEntry.call": _hidden(Action.CALLS_READ),
    "ModelCall.output": _hidden(Action.CONTENT_READ_ALL),
    "CallUsage.meters": SHOWN,
    "CallUsage.usd": SHOWN,
    "CallUsage.charges": SHOWN,
    "Charge.grant": _hidden(Action.WALLET_READ),
    "CallEstimate.maxUsd": SHOWN,
    "ModelCallPayload.wallet": _hidden(Action.WALLET_READ),
    "CallCompleted.wallet": _hidden(Action.WALLET_READ),
    "Plan.prices": SHOWN,
    "Plan.entitlements": SHOWN,
    "Plan.models": PUBLIC,
    "Price.plan": SHOWN,
    "Model.prices": SHOWN,
    "Model.plans": PUBLIC,
    "PlanModelsRow.plans": SHOWN,
    "ModelPrice.usd": SHOWN,
}
"""Every field that runs a resolver. `ModelCall.output` is shown to the call's own caller as well (A11), who may also
cancel it; whoever made an asset may read and delete it, also after leaving its workspace (C9)."""

NODES: Final[dict[str, Rule]] = {
    "ws": _workspace(Action.WORKSPACE_READ),
    "mem": _workspace(Action.MEMBERS_READ),
    "inv": _workspace(Action.INVITATIONS_READ),
    "key": _workspace(Action.KEYS_READ),
    "wal": _workspace(Action.WALLET_READ),
    "grant": _workspace(Action.WALLET_READ),
    "entry": _workspace(Action.WALLET_READ),
    "call": _workspace(Action.CALLS_READ),
    "asset": _workspace(Action.CONTENT_READ_ALL, Action.CONTENT_READ_ALL),
    "sub": _workspace(Action.PLAN_READ),
    "pay": _workspace(Action.BILLING_READ),
    "pm": _workspace(Action.BILLING_READ),
    "bill": _workspace(Action.BILLING_READ),
    "xfer": _workspace(Action.BILLING_READ),
    "user": Rule(Reach.FELLOW, Action.MEMBERS_READ),
    "plan": PUBLIC,
    "price": PUBLIC,
    "pack": PUBLIC,
    "model": PUBLIC,
    "pub": _workspace(Action.WORKSPACE_READ),
}
"""Who may read a node, by its id's prefix. A custom plan and its prices are its workspace's only (D10)."""


def as_markdown() -> str:
    """The table as docs/access.md shows it."""
    lines = [
        "# Who may ask what",
        "",
        "Made from `resolvers/access_table.py` by `python -m schema --write`; a test calls every field as everybody.",
        "What the viewer may not see is null or NOT_FOUND, as if it were not there.",
        "",
        "| field | answers | action | roles | API key scope |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [_line(f"`{coordinate}`", rule) for coordinate, rule in FIELDS.items()]
    lines += [_line(f'`node(id: "{prefix}_…")`', rule) for prefix, rule in NODES.items()]
    return "\n".join(lines) + "\n"


def _line(name: str, rule: Rule) -> str:
    if rule.action is None:
        return f"| {name} | {rule.reach.value} | – | – | – |"
    roles = ", ".join(role.value for role in Role if role in ROLES[rule.action])
    scope = SCOPES[rule.action]
    return f"| {name} | {rule.reach.value} | `{rule.action}` | {roles} | {scope.value if scope else 'people only'} |"
